"""Prepared data: token ids in memory-mapped arrays, with where each example came from."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.errors import DataError

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[Any]
"""Token ids as they are stored: ``uint16`` or ``uint32`` (``int64`` where held in memory); bytes of
pictures and names ``uint8``."""

FORMAT = 1
INDEX = "index.json"
LINES = "lines.bin"
PLACE = np.dtype("<i8")
NAME = "name"
"""A column of what examples are called, in UTF-8, where lines of files say less."""


def id_type(vocab_size: int) -> np.dtype[Any]:
    """The type of stored ids below this number."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


@dataclass(frozen=True)
class Column:
    """One column's ids, end to end: example i is ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: Ids
    offsets: Ints


class PreparedData:
    """Examples as token ids, without special tokens around them; opened, never loaded.

    Args:
        columns: the ids of each column.
        lines: ``[N]``, the line of each example in its file.
        files: file names, and the first example that came from each.
        dropped: how many examples were left out, by reason.
        key: what the data is known by: its content, tokenizers and settings.
        directory: where its files lie; None: in memory.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        lines: Ints,
        files: Sequence[tuple[int, str]],
        *,
        dropped: Mapping[str, int],
        key: str,
        directory: Path | None = None,
    ) -> None:
        self._columns = dict(columns)
        self._lines = lines
        self._files = list(files)
        self.dropped = dict(dropped)
        self.key = key
        self._directory = directory

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._columns)

    def column(self, name: str) -> Column:
        """A column whole, for collating."""
        return self._columns[name]

    def ids(self, column: str, i: int) -> Ids:
        """The ids of one example ``[length]``, a view of the map."""
        found = self._columns[column]
        return found.ids[found.offsets[i] : found.offsets[i + 1]]

    def lengths(self, column: str) -> Ints:
        """How many ids each example has ``[N]``."""
        return np.diff(self._columns[column].offsets)

    def origin(self, i: int) -> str:
        """``file:line`` of an example, or ``file:name`` where there are names."""
        file = self._files[bisect.bisect_right(self._files, int(i), key=lambda one: one[0]) - 1][1]
        if NAME in self._columns:
            name = self.ids(NAME, i).tobytes().decode("utf-8")
            return f"{file}{'/' if Path(file).is_dir() else ':'}{name}"
        return f"{file}:{int(self._lines[i])}"

    def digest(self) -> str:
        """What batches follow from: every id and every length, whatever the names of the files."""
        found = hashlib.blake2b(digest_size=16)
        for name, column in self._columns.items():
            if name == NAME:
                continue
            for part, held in (("ids", column.ids), ("offsets", column.offsets)):
                if self._directory is None:
                    found.update(np.ascontiguousarray(held).data)
                    continue
                # From the file: the map would become resident whole.
                with (self._directory / f"{name}.{part}").open("rb") as file:
                    while piece := file.read(1 << 20):
                        found.update(piece)
        return found.hexdigest()

    @classmethod
    def open(cls, directory: Path, *, files: Sequence[str] | None = None) -> PreparedData:
        """Map what ``prepare`` wrote.

        Args:
            directory: one entry of the cache.
            files: today's names of the files (their content decides the entry, not their names).

        Raises:
            DataError: the entry is damaged.
        """
        try:
            index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
            if index["format"] != FORMAT:
                raise ValueError(f"format {index['format']}")
            count = int(index["examples"])
            names = list(files) if files is not None else index["files"]
            columns = {
                name: Column(
                    _map(directory / f"{name}.ids", np.dtype(info["dtype"]), info["tokens"]),
                    _map(directory / f"{name}.offsets", PLACE, count + 1),
                )
                for name, info in index["columns"].items()
            }
            return cls(
                columns,
                _map(directory / LINES, PLACE, count),
                [(int(first), str(names[which])) for first, which in index["starts"]],
                dropped={str(reason): int(n) for reason, n in index["dropped"].items()},
                key=str(index["key"]),
                directory=directory,
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"the prepared data is damaged: {error}",
                where=str(directory),
                hint="remove this directory; it is made again from the text",
            ) from error

    @classmethod
    def in_memory(
        cls,
        columns: Mapping[str, Sequence[Sequence[int]]],
        *,
        lines: Sequence[int] | None = None,
        file: str = "<memory>",
    ) -> PreparedData:
        """The same face over ids that are held in memory; lines count from 1 where not given."""
        counts = {len(rows) for rows in columns.values()}
        if len(counts) != 1:
            raise DataError(f"columns of unequal length: {sorted(counts)}")
        made = {}
        for name, rows in columns.items():
            lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
            flat = np.fromiter((i for row in rows for i in row), np.int64, int(lengths.sum()))
            made[name] = Column(flat, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))
        count = counts.pop()
        places = np.array(lines if lines is not None else range(1, count + 1), dtype=np.int64)
        return cls(made, places, [(0, file)], dropped={}, key="memory")


def _map(path: Path, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    size = path.stat().st_size
    if size != count * dtype.itemsize:
        raise ValueError(f"{path.name} has {size} bytes, not {count * dtype.itemsize}")
    if not count:
        return np.zeros(0, dtype=dtype)  # nothing can be mapped
    # A plain array over the map: indexing a memmap object pays for its subclass at each call.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,)))
