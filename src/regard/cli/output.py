"""What verbs share: output files that are never overwritten, JSON, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from regard.cli.files import refuse_existing
from regard.files import write_text


def write_new(path: Path, text: str) -> None:
    """Write a new text file, whole or not at all.

    Raises:
        InputError: when something is there already, or its directory is missing.
    """
    refuse_existing(path)
    write_text(path, text)


def warning(text: str) -> None:
    """A line on standard error, for what stops nothing."""
    sys.stderr.write(f"warning: {text}\n")


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table: fitted to a terminal, whole where there is none. Numbers stand to the right."""
    held = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        cells = [row[index] for row in held if row[index] not in ("", "-")]
        number = bool(cells) and all(_is_number(cell) for cell in cells)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in held:
        table.add_row(*row)
    console().print(table)


def console() -> Console:
    """Standard output; where it is no terminal, no line is broken to fit one."""
    made = Console(highlight=False, markup=False)
    return made if made.is_terminal else Console(highlight=False, markup=False, width=10_000)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True
