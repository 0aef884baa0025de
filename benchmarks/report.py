"""Write one section of RESULTS.md, with the machine and versions it was measured on."""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

What was measured, by the scripts beside this file, also where it falls short. Ratios count only
within one run: machines of one kind differ by up to two from day to day.
"""


def existing(text: str) -> Path:
    """A path of the command line at which something is: `argparse`'s ``type``."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no such file or directory: {text}")
    return path


def write_section(title: str, body: str) -> None:
    """Put ``body`` under ``## title``, in place of what stood there."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
    head, *sections = text.split("\n## ")
    kept = {section.partition("\n")[0]: section for section in sections}
    kept[title] = f"{title}\n\n{body.strip()}\n"
    RESULTS.write_text("\n## ".join([head.rstrip() + "\n", *kept.values()]), encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def save_picture(figure: Figure, path: Path, *, colors: int = 32) -> None:
    """Write a PNG with a palette of few colors, which is a third of the size."""
    from PIL import Image

    figure.savefig(path, dpi=90)
    Image.open(path).convert("RGB").quantize(colors).save(path, optimize=True)


def measured_on(threads: int | None = None) -> str:
    """Day, processor, threads (of a run, where they are given) and versions, in one line."""
    import torch

    from regard.training import machine

    facts = machine()
    day = datetime.datetime.now(tz=datetime.UTC).date()
    count = threads or torch.get_num_threads()
    told = f"{count} thread{'s' * (count != 1)}{' a run' if threads else ''}"
    return (
        f"{day}, {facts['processor']}, {told}, Python "
        f"{platform.python_version()}, torch {facts['torch']}, regard {facts['regard']}."
    )
