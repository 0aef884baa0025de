"""Lines of text files, plain or compressed, with their numbers."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from regard.errors import DataError, missing_extra

STDIN = "-"
_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 18


def read_lines(path: str | Path, *, allow_empty: bool = False) -> Iterator[str]:
    """The lines of a UTF-8 text file without their ends, one at a time.

    Args:
        path: a plain, ``.gz`` or ``.zst`` file, or ``"-"`` for standard input.
        allow_empty: a file without any line is not an error (for prediction).

    Raises:
        DataError: the file is missing, empty, damaged or not UTF-8; the error names the line.
    """
    name = display_name(path)
    number = 0
    with _open(path) as stream, _damage(name):
        for number, raw in enumerate(stream, start=1):
            if number == 1 and raw.startswith(_BOM):
                raw = raw[len(_BOM) :]
                if not raw:  # the mark alone is no line
                    number = 0
                    break
            yield _decode(raw, name, number)
    if number == 0 and not allow_empty:
        raise DataError("the file is empty", where=name)


def count_lines(path: str | Path) -> int:
    """How many lines a file has; nothing is decoded."""
    with _open(path) as stream, _damage(display_name(path)):
        return sum(1 for _ in stream)


def read_bytes(path: str | Path) -> bytes:
    """The whole of a file, uncompressed.

    Raises:
        DataError: it is missing or damaged.
    """
    with _open(path) as stream, _damage(display_name(path)):
        return stream.read()


def display_name(path: str | Path) -> str:
    """How an error or an origin calls a file."""
    return "<stdin>" if str(path) == STDIN else str(path)


def check_file(path: str | Path, origin: str = "") -> Path:
    """The path, once it is known to be a file.

    Args:
        path: of the file.
        origin: where it is named, if another file does that.

    Raises:
        DataError: nothing is there (the nearest name in that directory is suggested), or it is
            a directory.
    """
    path = Path(path)
    where = f"{origin}: {path}" if origin else str(path)
    if path.is_dir():
        raise DataError("this is a directory, not a file", where=where)
    if path.exists():
        return path
    raise DataError("there is no such file", where=where, hint=_nearest(path))


def _nearest(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        while not parent.is_dir():
            parent = parent.parent
        return f"its directory does not exist either; the part that exists is {parent}"
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return "its directory cannot be read"
    longer = [name for name in names if name.startswith(path.name + ".")]
    near = longer or difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"did you mean {parent / near[0]}?" if near else f"nothing in {parent} has a like name"


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, uncompressed."""
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    path = check_file(path)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"the file cannot be opened: {error.strerror}", where=str(path)) from error
    with raw:
        yield _unpack(raw, path.suffix.lower())


def _unpack(raw: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw, mode="rb"), _CHUNK)
    if suffix == ".zst":
        return io.BufferedReader(_Zstandard(raw), _CHUNK)
    return raw


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        hint = "the file is damaged, cut off, or not of the kind that its name says"
        raise DataError(f"the file cannot be read: {error}", where=name, hint=hint) from error


def _decode(raw: bytes, name: str, number: int) -> str:
    if raw.endswith(b"\n"):
        raw = raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"this line is not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start + 1}",
            where=f"{name}:{number}",
            hint=_encoding_hint(raw, number),
        ) from error


def _encoding_hint(raw: bytes, number: int) -> str:
    if number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "the file looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE"
    if number == 1 and raw[:2] == b"\x1f\x8b":
        return "the file is gzip-compressed; give its name the ending .gz"
    if number == 1 and raw[:4] == b"\x28\xb5\x2f\xfd":
        return "the file is zstd-compressed; give its name the ending .zst"
    return "convert the file, for example: iconv -f LATIN1 -t UTF-8 FILE"


class _Zstandard(io.RawIOBase):
    """A zstd file of one or more frames; unlike the library's reader it notices a cut."""

    def __init__(self, raw: IO[bytes]) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise missing_extra("zstandard", "data") from error
        self._raw = raw
        self._factory = zstandard.ZstdDecompressor()
        self._error = zstandard.ZstdError
        self._frame: Any = None
        self._left = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._fill():
                return 0
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _fill(self) -> bool:
        """Unpack one more chunk; False at the end of the file."""
        data = self._left or self._raw.read(_CHUNK // 8)
        self._left = b""
        if not data:
            if self._frame is not None:
                raise EOFError("the compressed data ends before its end mark")
            return False
        if self._frame is None:
            self._frame = self._factory.decompressobj()
        try:
            self._ready = self._frame.decompress(data)
        except self._error as error:
            raise OSError(str(error)) from error
        if self._frame.eof:
            self._left = self._frame.unused_data
            self._frame = None
        return True
