"""Operators in C++ for work so small that calling torch's own costs more than it does.

They are built once for a machine and a torch, where there is a compiler; everything works without
them, in more and slower calls. The environment variable ``REGARD_NATIVE=0`` leaves them out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

_SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_FLAGS = ["-O3", "-march=native", "-fopenmp"]
"""Of the compiler alone: the functions of OpenMP are those that torch itself brings along."""

log = logging.getLogger(__name__)


_loaded = False


def loaded() -> bool:
    """Whether the operators are there already."""
    return _loaded


@cache
def load() -> bool:
    """Load the operators as ``torch.ops.regard``, built first where they are not yet.

    Returns:
        Whether they are there.
    """
    if os.environ.get("REGARD_NATIVE") == "0":
        return False
    global _loaded
    try:
        place = _place()
        if place.exists():
            torch.ops.load_library(place)  # type: ignore[no-untyped-call]
        else:
            _build(place)
    except Exception as error:  # no compiler, no room, another torch: all the same
        log.info("no operators in C++: %s", error)
        return False
    _loaded = True
    return True


def _place() -> Path:
    """Where they are kept; another file for each source, torch and kind of processor."""
    from regard.nn.backend import processor

    machine = processor()
    files = [*_SOURCES, *sorted(_SOURCES[0].parent.glob("*.h"))]
    what = [file.read_text(encoding="utf-8") for file in files]
    what += [*_FLAGS, torch.__version__]
    what += [machine.get("model name", ""), machine.get("flags", "")]
    key = hashlib.sha256("\n".join(what).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "regard" / "native" / f"regard-{key}.so"


def _build(place: Path) -> None:
    """Build by torch's own tools, which load what they made, and keep it; takes some seconds."""
    from torch.utils import cpp_extension

    log.info("building operators in C++, once: %s", place)
    place.parent.mkdir(parents=True, exist_ok=True)
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            cpp_extension.load(
                name="regard",
                sources=list(map(str, _SOURCES)),
                extra_cflags=_FLAGS,
                build_directory=directory,
                is_python_module=False,
            )
        shutil.copyfile(Path(directory) / "regard.so", whole := Path(directory) / "whole.so")
        whole.replace(place)
