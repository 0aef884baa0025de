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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_FLAGS = ["-O3", "-march=native", "-fopenmp"]
"""Of the compiler alone: the functions of OpenMP are those that torch itself brings along."""

log = logging.getLogger(__name__)


STALE = 600.0
"""Seconds after which a build that has not ended is taken for dead."""

_loaded = False
_builders: list[subprocess.Popen[bytes]] = []


def loaded() -> bool:
    """Whether the operators are there already."""
    return _loaded


def load(*, wait: bool = True) -> bool:
    """Load the operators as ``torch.ops.regard``.

    Args:
        wait: build them first, where they are not yet, which takes some ten seconds; else another
            process builds them meanwhile, for the next time.

    Returns:
        Whether they are there.
    """
    global _loaded
    if _loaded or os.environ.get("REGARD_NATIVE") == "0":
        return _loaded
    try:
        place = _place()
        if place.exists():
            torch.ops.load_library(place)  # type: ignore[no-untyped-call]
        elif not _can_build(place):
            return False
        elif wait:
            _build(place)
        else:
            _build_meanwhile(place)
            return False
    except Exception as error:  # no room, another torch: all the same
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


def _can_build(place: Path) -> bool:
    """Whether there is a compiler, and it did not fail before."""
    compiler = os.environ.get("CXX", "c++")
    return all(map(shutil.which, (compiler, "ninja"))) and not _failure(place).exists()


def _failure(place: Path) -> Path:
    """Where it is written why a build failed."""
    return place.with_suffix(".failed.txt")


def _build_meanwhile(place: Path) -> None:
    """In a process that outlives this one; one at a time."""
    mark = place.with_suffix(".building")
    place.parent.mkdir(parents=True, exist_ok=True)
    if mark.exists() and time.time() - mark.stat().st_mtime < STALE:
        return
    mark.touch()
    command = [sys.executable, "-m", __name__]
    nowhere = subprocess.DEVNULL
    _builders.append(
        subprocess.Popen(
            command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
    )


def _build(place: Path) -> None:
    """Build by torch's own tools, which load what they made, and keep it."""
    from torch.utils import cpp_extension

    log.info("building operators in C++, once: %s", place)
    place.parent.mkdir(parents=True, exist_ok=True)
    said = io.StringIO()
    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                cpp_extension.load(
                    name="regard",
                    sources=list(map(str, _SOURCES)),
                    extra_cflags=_FLAGS,
                    build_directory=directory,
                    is_python_module=False,
                )
        except Exception as error:
            _failure(place).write_text(f"{error}\n{said.getvalue()}", encoding="utf-8")
            raise
        shutil.copyfile(Path(directory) / "regard.so", whole := Path(directory) / "whole.so")
        whole.replace(place)
    place.with_suffix(".building").unlink(missing_ok=True)
