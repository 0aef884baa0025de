"""Pairs whose texts come as lists: of sentences, and of answers of which each is right.

JSON lines may hold such: the sentences are one text, and of several answers the first is learned,
while scores take them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from regard.data import Example, Source, Table
from regard.data.codecs import LIST
from regard.data.mixture import Prefixed
from regard.data.readers.tables import read_records


class Listed:
    """A table's sources whole and its targets, of which the first is wanted, or every one.

    Args:
        inner: the table, whose lists come joined by `LIST`.
        lists: which of the columns are lists.
        every: whether all targets are wanted, still joined.
    """

    def __init__(self, inner: Source, lists: Sequence[str], *, every: bool = False) -> None:
        self.inner, self.lists, self.every = inner, tuple(lists), every
        self.columns, self.files = inner.columns, inner.files
        self.identity: Mapping[str, Any] = {**inner.identity, "summaries": "every" * every}

    def __iter__(self) -> Iterator[Example]:
        for one in self.inner:
            text, target = one.fields
            if "source" in self.lists:
                text = text.replace(LIST, " ")
            if "target" in self.lists and not self.every:
                target = target.partition(LIST)[0]
            yield Example((text, target), one.file, one.line)


def with_lists(source: Source, *, every: bool = False) -> Source:
    """The same pairs, lists read as they are meant where the first record of JSON lines has any.

    Raises:
        DataError: that record is no JSON object, or lacks a field.
    """
    if not isinstance(source, Table) or source.kind != "jsonl":
        return source
    records = (values for _, values in read_records(source.path, source.fields))
    first = next((values for values in records if values is not None), ())
    named = zip(source.columns, first, strict=False)  # an empty file has no first
    lists = [column for column, value in named if isinstance(value, list)]
    if not lists:
        return source
    fields = dict(zip(source.columns, source.fields, strict=True))
    return Listed(Table(source.path, fields, lists=lists), lists, every=every)


def has_several(source: Source) -> bool:
    """Whether the targets are lists of which each entry is right."""
    inner = source.inner if isinstance(source, Prefixed) else source
    return isinstance(inner, Listed) and "target" in inner.lists
