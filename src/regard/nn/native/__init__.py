"""Operators in C++: steps of decoding, so small that calling torch's own costs more than the work,
whole texts through all layers, and what training does between matrix products, in one pass instead
of many.

They are built once for a machine and a torch, on Linux where there are a compiler, ninja and a
processor with AVX-512 (VNNI); everything works without them, in more and slower calls. The
environment variable ``REGARD_NATIVE=0`` leaves them out.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from regard.nn.processor import processor

_HERE = Path(__file__).parent
_NEEDED = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
_STALE = 600.0  # seconds after which a build that has not ended is taken for dead
_AGAIN = 86_400.0  # seconds after which one that failed is tried again

log = logging.getLogger(__name__)
_lock = threading.Lock()
_loaded = False


def loaded() -> bool:
    """Whether the operators are there already."""
    return _loaded


def load(*, wait: bool = True) -> bool:
    """Load the operators as ``torch.ops.regard``.

    Args:
        wait: build them first, where they are not yet, which takes about half a minute; else
            another process builds them meanwhile, for the next time.

    Returns:
        Whether they are there.
    """
    global _loaded
    with _lock:
        if not _loaded and os.environ.get("REGARD_NATIVE") != "0":
            try:
                _loaded = _found(wait=wait)
            except (OSError, RuntimeError) as error:  # no room, no home directory: all the same
                log.info("no operators in C++: %s", error)
        return _loaded


def _found(*, wait: bool) -> bool:
    if not set(processor().get("flags", "").split()) >= _NEEDED:
        return False
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    compiler = shutil.which(os.environ.get("CXX", "c++"), path=path)
    place = _place(compiler)
    if not place.exists() and compiler and shutil.which("ninja", path=path):
        _build(place, {**os.environ, "PATH": path}, wait=wait)
    if not place.exists():
        return False
    try:
        torch.ops.load_library(place)  # type: ignore[no-untyped-call]
    except OSError:  # of another torch
        place.unlink()
        raise
    with contextlib.suppress(OSError):
        place.touch()  # in use: a later build leaves it there
    return True


def _place(compiler: str | None) -> Path:
    """Where they are kept: another file for each source, torch, compiler and processor."""
    sources = sorted([*_HERE.glob("*.cpp"), *_HERE.glob("*.h"), *_HERE.glob("build.py")])
    what = [source.read_text(encoding="utf-8") for source in sources]
    what += [torch.__version__, compiler or ""]
    what += [processor().get(key, "") for key in ("model name", "flags")]
    key = hashlib.sha256("\n".join(what).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    home = home if home.is_absolute() else Path.home() / ".cache"  # as the specification says
    return home / "regard" / "native" / f"regard-{key}.so"


def _build(place: Path, environment: dict[str, str], *, wait: bool) -> None:
    """Build in a process of its own, at low priority where nobody waits for it."""
    failure, mark = place.with_suffix(".failed.txt"), place.with_suffix(".building")
    if _younger(failure, _AGAIN) or (not wait and (_younger(mark, _STALE) or "CI" in environment)):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    said = "building operators in C++, once, which takes about half a minute: %s"
    log.log(logging.WARNING if wait else logging.INFO, said, place)
    # -P: nothing of the working directory is imported
    command = [sys.executable, "-P", str(_HERE / "build.py"), str(place)]
    builder = subprocess.Popen(
        command if wait else [*command, "--low"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=place.parent,
        start_new_session=not wait,
    )
    if wait:
        builder.wait()
        if failure.exists() and not place.exists():
            log.warning("they could not be built, and it goes on without, more slowly: %s", failure)
    else:
        builder.returncode = 0  # it outlives this process, which never asks what became of it


def _younger(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime < seconds
    except OSError:
        return False
