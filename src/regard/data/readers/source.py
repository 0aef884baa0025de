"""Where examples come from: parallel text files, or one table with named fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from regard.data.readers.lines import check_file, display_name, read_lines
from regard.errors import DataError, RecipeError
from regard.registry import nearest


class Example(NamedTuple):
    """One example: its texts in the order of the source's columns, and where it stands.

    ``place`` says that in other words than ``file:line``, where it is a file of its own.
    """

    fields: tuple[str, ...]
    file: str
    line: int
    place: str = ""

    @property
    def origin(self) -> str:
        """``file:line``, for messages."""
        return self.place or f"{self.file}:{self.line}"


@runtime_checkable
class Source(Protocol):
    """Something that yields examples, from the start at each iteration, streaming."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of an example's fields."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that decide the content."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides, beside the files' bytes, which examples come out (JSON values)."""
        ...

    def __iter__(self) -> Iterator[Example]: ...


class ParallelText:
    """Text files whose lines belong together: one column each.

    Args:
        paths: file of each column, e.g. ``{"source": "train.en", "target": "train.de"}``; a
            single column is a monolingual file.

    Raises:
        DataError: a file is missing; while reading: the files have unequal line counts.
    """

    def __init__(self, paths: Mapping[str, str | Path]) -> None:
        if not paths:
            raise DataError("no file was given")
        self.columns = tuple(paths)
        self.files = tuple(check_file(path) for path in paths.values())
        self.identity: Mapping[str, Any] = {"format": "lines", "columns": list(self.columns)}

    def __iter__(self) -> Iterator[Example]:
        name = display_name(self.files[0])
        readers = [read_lines(path) for path in self.files]
        number = 0
        while True:
            lines = [next(reader, None) for reader in readers]
            if all(line is not None for line in lines):
                number += 1
                yield Example(tuple(line for line in lines if line is not None), name, number)
                continue
            if any(line is not None for line in lines):
                self._unequal(readers, lines, number)
            return

    def _unequal(
        self, readers: Sequence[Iterator[str]], lines: Sequence[str | None], number: int
    ) -> None:
        counts = [
            number + (line is not None) + sum(1 for _ in reader)
            for reader, line in zip(readers, lines, strict=True)
        ]
        stated = ", ".join(
            f"{display_name(path)} has {count:,}"
            for path, count in zip(self.files, counts, strict=True)
        )
        raise DataError(
            f"parallel files need as many lines: {stated}",
            where=display_name(self.files[0]),
            hint="line n of one file must be the translation of line n of the other",
        )


def open_source(
    data: Mapping[str, Any],
    *,
    columns: Sequence[str],
    base: str | Path | None = None,
    lists: Sequence[str] = (),
) -> Source:
    """The source that a recipe's ``data.train``, ``data.valid`` or ``data.test`` describes.

    Args:
        data: ``{"source": F, "target": F}``, or ``{"file": F, "fields": {"source": "en", …}}``
            with F a TSV, CSV, JSONL or Parquet file (``fields`` may be left out when the file's
            own names are the columns').
        columns: the columns that the task needs, in order.
        base: directory that relative paths start from.
        lists: columns of a table that hold lists; see `Table`.

    Raises:
        RecipeError: an unknown or missing key.
        DataError: a file or a field is missing.
    """
    root = Path(base) if base is not None else Path()
    if "file" not in data:
        check_keys(data, columns, missing=True)
        return ParallelText({column: root / data[column] for column in columns})
    check_keys(data, ["file", "fields"], missing=False)
    fields = data.get("fields") or {column: column for column in columns}
    if not isinstance(fields, Mapping):
        raise RecipeError(
            f"fields is {fields!r}, not a table", hint='such as fields = { source = "en" }'
        )
    check_keys(fields, columns, missing=True)
    from regard.data.readers.tables import Table

    wanted = {column: fields[column] for column in columns}
    return Table(root / data["file"], wanted, lists=lists)


def check_keys(given: Mapping[str, Any], known: Sequence[str], *, missing: bool) -> None:
    """Refuse keys of a data setting that are not known, and those missing where all are needed."""
    for key in given:
        if key not in known:
            near = nearest(key, known)
            raise RecipeError(
                f"unknown key {key!r} in a data setting",
                hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
            )
    for key in known if missing else ():
        if key not in given:
            raise RecipeError(
                f"the data setting lacks the key {key!r}", hint=f"it needs: {', '.join(known)}"
            )
