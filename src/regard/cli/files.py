"""What the verbs that use a run share: the run, texts from anywhere, files that are never lost."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from regard.errors import InputError, missing_extra

Write = Callable[[str], None]

CHUNK = 4096
"""Texts worked on together: sorted by length inside, answered in their order."""


def predictor(run: Path, verb: str, precision: Any, device: str, checkpoint: str) -> Any:
    """The predictor of a run, for a verb.

    Raises:
        InputError: the run is for another task.
    """
    with _without_collecting():
        from regard.load import load
        from regard.nn import backend

    backend.keep_heap()  # the process is ours
    found = load(run, precision=precision, device=device, checkpoint=checkpoint)
    if not hasattr(found, verb):
        raise InputError(
            f"this run does not {verb}: it was trained for another task",
            where=str(run),
            hint=f"regard predict {run} does what it was trained for",
        )
    return found


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Import torch without looking for garbage, and never look for it in what was imported."""
    if "torch" in sys.modules or not gc.isenabled():  # a program's whose objects are not ours
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def texts_from(
    words: Sequence[str] | None, file: str | None, *, paths: bool = False
) -> Iterator[str]:
    """The texts given as arguments, or the lines of a file, or of standard input.

    An argument that is the name of a file is a text all the same; a warning says so unless
    ``paths`` are what is wanted.

    Raises:
        InputError: for both at once, or for a terminal where nobody types.
        DataError: for a file that is missing or not UTF-8.
    """
    from regard.data import read_lines

    if words and file is not None:
        raise InputError("give texts or a file, not both")
    if words:
        for word in words if not paths else ():
            notice_file(word, f": -i {word} reads its lines")
        return iter(words)
    if file is None and sys.stdin.isatty():
        raise InputError(
            "there is nothing to work on", hint="give a text in quotes, -i FILE, or pipe text in"
        )
    return read_lines(file or "-", allow_empty=True)


def numbered(
    words: Sequence[str] | None, file: str | None, *, paths: bool = False
) -> Iterator[tuple[str, str]]:
    """The texts of `texts_from`, each with what errors call it."""
    name = "text " if words else "<stdin>:" if file in (None, "-") else f"{file}:"
    for number, text in enumerate(texts_from(words, file, paths=paths), start=1):
        yield f"{name}{number}", text


def chunks(
    words: Sequence[str] | None, file: str | None, *, paths: bool = False
) -> Iterator[tuple[list[str], list[str]]]:
    """Many texts of `texts_from` at a time, with what errors call each."""
    rows = numbered(words, file, paths=paths)
    while chunk := list(itertools.islice(rows, CHUNK)):
        yield [text for _, text in chunk], [origin for origin, _ in chunk]


@contextmanager
def at(origin: str) -> Iterator[None]:
    """What is wrong with an input is so at this place."""
    try:
        yield
    except InputError as error:
        raise InputError(error.what, where=error.where or origin, hint=error.hint) from None


def notice_file(text: str, hint: str = "") -> None:
    """Say so where a text is the name of a file, which nobody reads."""
    from regard.cli.output import warning

    if os.path.isfile(text):  # which takes any text, however long
        warning(f"{text!r} is read as a text, not as the file{hint}")


def notice_prefix(prefix: str | None, prefixes: Sequence[str], own: str = "") -> None:
    """Say so where nothing says which of a run's tasks is meant, or what says it is not known.

    Args:
        prefix: that was given; an empty one leaves it to the texts.
        prefixes: of a run's several tasks.
        own: of its only one.
    """
    from regard.cli.output import warning
    from regard.registry import nearest

    known = [one for one in (*prefixes, own) if one]
    names = ", ".join(map(repr, known))
    if prefix is None and any(prefixes):
        warning(f"this run knows several tasks; --prefix says which: one of {names}")
    elif prefix and known and prefix not in known:
        near = nearest(prefix, known)
        told = f"did you mean {near!r}? known: {names}" if near else f"known: {names}"
        warning(f"this run was trained on no task with the prefix {prefix!r}; {told}")


class BadPictures:
    """Pictures among others that cannot be read: named as they are met, an error at the end."""

    def __init__(self) -> None:
        self.count = 0

    def line(self, picture: str | Path, error: Exception, as_json: bool) -> str:
        """Name one; what stands in its place."""
        from regard.cli.output import warning

        self.count += 1
        warning(str(error))
        if not as_json:
            return ""
        what = getattr(error, "what", str(error))
        return json.dumps({"picture": str(picture), "error": what}, ensure_ascii=False)

    def complain(self) -> None:
        """Where there was one.

        Raises:
            InputError: saying how many.
        """
        if self.count:
            raise InputError(f"{self.count:,} of the pictures cannot be read: see the warnings")


def one_line(text: str) -> str:
    """Line ends and tabs as spaces: line n of the output belongs to line n of the input."""
    return text.replace("\r\n", " ").translate(str.maketrans("\n\r\t", "   "))


def refuse_existing(path: Path | None) -> None:
    """An output that is there already is never written over.

    Raises:
        InputError: naming it.
    """
    if path is not None and path.exists():
        what = "directory" if path.is_dir() else "file"
        raise InputError(
            f"this {what} exists already",
            where=str(path),
            hint="name another, or remove it first",
        )
    if path is not None and not path.parent.is_dir():
        raise InputError("there is no such directory", where=str(path.parent))


@contextmanager
def opened_output(path: Path | None) -> Iterator[Write]:
    """Write lines to a new file, or to standard output.

    The file has its name when it is whole. What an error leaves unfinished stays beside it, as
    ``NAME.partial``; where no line was written, nothing stays.

    Raises:
        InputError: when the file exists.
    """
    if path is None:
        yield _print
        return
    refuse_existing(path)
    partial, lines = path.with_name(f"{path.name}.partial"), 0

    def write(line: str) -> None:
        nonlocal lines
        lines += 1
        print(line, file=file)

    try:
        with _open_new(partial, path.suffix) as file:
            yield write
        refuse_existing(path)
        partial.rename(path)
    except BaseException:
        if lines:
            print(f"lines written before this error: {partial}", file=sys.stderr)
        else:
            partial.unlink(missing_ok=True)
        raise


def _open_new(partial: Path, ending: str) -> IO[str]:
    """A file to write, packed as the ending of its later name says."""
    how: Any = {"mode": "wt", "encoding": "utf-8", "newline": "\n"}
    if ending == ".gz":
        import gzip

        return cast(IO[str], gzip.open(partial, **how))
    if ending == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise missing_extra("zstandard", "data") from error
        return cast(IO[str], zstandard.open(partial, **how))
    return cast(IO[str], partial.open(**how))


def _print(line: str) -> None:
    print(line, flush=True)
