"""Tables with named fields: TSV, CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.data.readers.lines import check_file, read_lines
from regard.data.readers.source import Example
from regard.errors import DataError, missing_extra
from regard.registry import nearest

Fields = Sequence[str | int]
Row = tuple[int, tuple[str, ...]]
"""A line or row number, counted from 1, and the texts of the wanted fields."""

_PARQUET_ROWS = 4096
_CSV_FIELD = 1 << 30


class Table:
    """Named fields of one file.

    Args:
        path: a ``.tsv``, ``.csv`` or ``.jsonl`` file (also ``.gz`` or ``.zst``) or ``.parquet``.
        fields: for each column the field that holds it: a name, or, for TSV and CSV files
            without a header, a column number counted from 1.
        lists: columns that hold lists; their entries come joined by line feeds. In JSON lines and
            Parquet they are lists, in TSV and CSV what stands between white space.

    Raises:
        DataError: the file is missing or of an unknown kind; while reading: a field is missing,
            a row is damaged.
    """

    def __init__(
        self, path: str | Path, fields: Mapping[str, str | int], *, lists: Sequence[str] = ()
    ) -> None:
        self.path = check_file(path)
        self.columns = tuple(fields)
        self.fields = tuple(fields.values())
        self.kind = _kind(self.path)
        self.lists = tuple(fields[column] for column in lists)
        self.files = (self.path,)
        self.identity: Mapping[str, Any] = {
            "format": self.kind,
            "columns": list(self.columns),
            "fields": list(self.fields),
            **({"lists": list(self.lists)} if lists else {}),
        }

    def __iter__(self) -> Iterator[Example]:
        name = str(self.path)
        for number, texts in _READERS[self.kind](self.path, self.fields, self.lists):
            yield Example(texts, name, number)


def columns_of(path: Path) -> tuple[str, ...]:
    """The names in a table's header, or those of its first record.

    Raises:
        DataError: it is no table, or its first record cannot be read.
    """
    kind = _kind(path)
    if kind == "parquet":
        return tuple(_parquet().ParquetFile(str(path)).schema_arrow.names)
    first = next((line for line in read_lines(path) if line.strip()), "")
    if kind == "jsonl":
        try:
            return tuple(json.loads(first))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"the line is not valid JSON: {error}", where=f"{path}:1") from error
    return tuple(first.split("\t") if kind == "tsv" else next(csv.reader([first]), ()))


def is_table(path: str | Path) -> bool:
    """Whether a file's name ends as a table's."""
    return _ending(Path(path)) is not None


def _ending(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    ending = suffixes[-1] if suffixes else ""
    kind = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(ending)
    return "parquet" if kind is None and path.suffix.lower() == ".parquet" else kind


def _kind(path: Path) -> str:
    kind = _ending(path)
    if kind is None:
        raise DataError(
            "the kind of this table cannot be told from its name",
            where=str(path),
            hint="known endings: .tsv .csv .jsonl (each also with .gz or .zst) .parquet",
        )
    return kind


def _missing_field(path: Path, field: str | int, known: Sequence[str]) -> DataError:
    near = nearest(str(field), known)
    return DataError(
        f"there is no field {field!r}",
        where=str(path),
        hint=(f"did you mean {near!r}? " if near else "") + f"known fields: {', '.join(known)}; "
        'say which holds what: fields = { COLUMN = "FIELD" } beside file, '
        "in regard new --COLUMN FIELD",
    )


def _positions(path: Path, fields: Sequence[str | int], header: Sequence[str]) -> list[int]:
    """The index of each field in a row: by number, or by its name in the header."""
    found = []
    for field in fields:
        if isinstance(field, int) and 1 <= field <= len(header):
            found.append(field - 1)
        elif isinstance(field, str) and field in header:
            found.append(list(header).index(field))
        elif isinstance(field, int):
            raise _missing_field(path, field, [str(i + 1) for i in range(len(header))])
        elif field.isdecimal():
            hint = f"for the column of that number, write {field} without quotes"
            raise DataError(f"there is no field {field!r}", where=str(path), hint=hint)
        else:
            raise _missing_field(path, field, header)
    return found


def _separated(
    path: Path,
    fields: Fields,
    lists: Fields,
    rows: Iterator[tuple[int, list[str]]],
) -> Iterator[Row]:
    positions: list[int] = []
    width = 0
    for number, row in rows:
        if not positions:
            positions, width = _positions(path, fields, row), len(row)
            if any(isinstance(field, str) for field in fields):
                continue  # the header
        if not any(row):
            yield number, ("",) * len(positions)
        elif max(positions) >= len(row):
            raise DataError(
                f"the row has {len(row)} fields, the first one has {width}",
                where=f"{path}:{number}",
            )
        else:
            where = f"{path}:{number}"
            pairs = zip(positions, fields, strict=True)
            yield number, tuple(_held(row[at], field, lists, where) for at, field in pairs)


def _read_tsv(path: Path, fields: Fields, lists: Fields) -> Iterator[Row]:
    rows = ((n, line.split("\t")) for n, line in enumerate(read_lines(path), start=1))
    yield from _separated(path, fields, lists, rows)


def _read_csv(path: Path, fields: Fields, lists: Fields) -> Iterator[Row]:
    yield from _separated(path, fields, lists, _csv_rows(path))


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    old = csv.field_size_limit(_CSV_FIELD)
    try:
        reader = csv.reader((line + "\n" for line in read_lines(path)), strict=True)
        start = 1
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"the row is not valid CSV: {error}", where=f"{path}:{start}"
                ) from error
            yield start, row
            start = reader.line_num + 1
    finally:
        csv.field_size_limit(old)


def read_records(
    path: Path, fields: Sequence[str | int]
) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
    """The wanted fields of each JSON line, with its number; None for an empty line.

    Raises:
        DataError: a line is no JSON object, or lacks a field.
    """
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            yield number, None
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"the line is not valid JSON: {error}", where=where) from error
        if not isinstance(record, dict):
            raise DataError("the line is not a JSON object with named fields", where=where)
        for field in fields:
            if field not in record:
                raise _missing_field(Path(where), field, [str(key) for key in record])
        yield number, tuple(record[field] for field in fields)


def _read_jsonl(path: Path, fields: Fields, lists: Fields) -> Iterator[Row]:
    for number, values in read_records(path, fields):
        held = values if values is not None else ("",) * len(fields)
        where = f"{path}:{number}"
        yield (
            number,
            tuple(_held(v, field, lists, where) for v, field in zip(held, fields, strict=True)),
        )


def _parquet() -> Any:
    try:
        importlib.import_module("pyarrow")
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise missing_extra("pyarrow", "data") from error


def _read_parquet(path: Path, fields: Fields, lists: Fields) -> Iterator[Row]:
    parquet = _parquet()
    pyarrow: Any = importlib.import_module("pyarrow")
    try:
        with parquet.ParquetFile(str(path)) as table:
            known = list(table.schema_arrow.names)
            for field in fields:
                if field not in known:
                    raise _missing_field(path, field, known)
            if table.metadata.num_rows == 0:
                raise DataError("the file is empty", where=str(path))
            yield from _parquet_rows(path, table, [str(field) for field in fields], lists)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"the file is not valid Parquet: {error}", where=str(path)) from error


def _parquet_rows(path: Path, table: Any, fields: Sequence[str], lists: Fields) -> Iterator[Row]:
    number = 0
    for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=list(dict.fromkeys(fields))):
        try:
            columns = [batch.column(field).to_pylist() for field in fields]
        except UnicodeDecodeError as error:
            raise DataError(
                f"a text is not UTF-8: {error}",
                where=f"{path}, rows {number + 1} to {number + batch.num_rows}",
            ) from error
        for values in zip(*columns, strict=True):
            number += 1
            where = f"{path}:{number}"
            yield (
                number,
                tuple(
                    _held(v, field, lists, where) for v, field in zip(values, fields, strict=True)
                ),
            )


def _held(value: Any, field: str | int, lists: Fields, where: str) -> str:
    """A field's value as text; a list's entries are joined by line feeds."""
    if field not in lists:
        return text_of(value, str(field), where)
    if isinstance(value, str):
        return "\n".join(value.split())
    if not isinstance(value, list):
        raise DataError(f"field {field!r} holds no list", where=where)
    # An entry is one line: white space inside it is a space.
    return "\n".join(" ".join(text_of(one, str(field), where).split()) for one in value)


def text_of(value: Any, field: str, where: str) -> str:
    """A field's value as text: null is empty, numbers are written out."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = type(value).__name__
        raise DataError(f"field {field!r} holds a {kind}, not a text", where=where)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # a JSON escape such as \ud800 alone
            raise DataError(
                f"field {field!r} holds half a character: {error}", where=where
            ) from error
    return value


_READERS: dict[str, Callable[[Path, Fields, Fields], Iterator[Row]]] = {
    "tsv": _read_tsv,
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
