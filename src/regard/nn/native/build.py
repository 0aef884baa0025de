"""Build the operators by torch's own tools: ``python -P build.py PLACE.so [--low]``.

A program of its own, which imports nothing of ours: what it compiles is not loaded by who asks. It
leaves ``PLACE.so``, or ``PLACE.failed.txt`` with the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

FLAGS = ["-O3", "-march=native", "-fopenmp", "-mprefer-vector-width=512"]
"""Of the compiler alone: the functions of OpenMP are those that torch itself brings along."""

UNUSED = 30 * 86_400.0  # seconds


def main() -> None:
    """Build, unless another process does so at this moment: then wait for what comes of it."""
    place, begun = Path(sys.argv[1]), time.time()
    failure = place.with_suffix(".failed.txt")
    if "--low" in sys.argv:
        os.nice(19)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            failed = failure.exists() and failure.stat().st_mtime >= begun
            if not place.exists() and not failed:
                _build(place, failure)
        finally:
            place.with_suffix(".building").unlink(missing_ok=True)


def _build(place: Path, failure: Path) -> None:
    """Build beside the place first, so that it is there whole or not at all."""
    said = io.StringIO()
    try:
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="regard-") as directory:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                from torch.utils import cpp_extension

                cpp_extension.load(
                    name="regard",
                    sources=[str(path) for path in sorted(Path(__file__).parent.glob("*.cpp"))],
                    extra_cflags=FLAGS,
                    build_directory=directory,
                    is_python_module=False,
                )
            made = Path(directory) / "regard.so"
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.replace(place)
        _sweep(place.parent)
    except Exception as error:
        failure.write_text(f"{error}\n{said.getvalue()}")


def _sweep(directory: Path) -> None:
    """What nobody has used for long is of a torch or a source that is gone."""
    for one in directory.glob("regard-*"):
        with contextlib.suppress(OSError):
            if time.time() - one.stat().st_mtime > UNUSED:
                shutil.rmtree(one) if one.is_dir() else one.unlink()


if __name__ == "__main__":
    main()
