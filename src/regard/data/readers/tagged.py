"""Tagged words: CoNLL files, a word and its tag a line, and what lists of both must agree in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.data.readers.lines import check_file, display_name, read_lines
from regard.data.readers.source import Example, Source, check_keys
from regard.errors import DataError, RecipeError

DOCUMENT = "-DOCSTART-"
WORDS, TAGS = "words", "tags"


_BETWEEN = re.compile("[ \\t]+")
"""Other white space is part of a word."""


class Conll:
    """Sentences of a CoNLL file: columns between spaces or tabs, a blank line after each.

    Its columns are ``words`` and ``tags``, each entry on a line of its own. CoNLL's own
    ``-DOCSTART-`` lines are left out.

    Args:
        path: the file, plain, ``.gz`` or ``.zst``.
        fields: the number of each column, from 1; by default the first and the last.
    """

    def __init__(self, path: str | Path, fields: Mapping[str, str | int] | None = None) -> None:
        self.columns = (WORDS, TAGS)
        self.files = (check_file(path),)
        self._places = [0, -1]
        if fields is not None:
            check_keys(fields, self.columns, missing=True)
            for column, number in fields.items():
                if not isinstance(number, int) or number < 1:
                    raise RecipeError(
                        f"a CoNLL file has no names: {column} needs a number from 1, "
                        f"not {number!r}",
                        where="fields",
                        hint="such as fields = { words = 1, tags = 4 }",
                    )
            self._places = [int(fields[column]) - 1 for column in self.columns]
        self.identity: Mapping[str, Any] = {"format": "conll", "places": self._places}

    def __iter__(self) -> Iterator[Example]:
        name, first = display_name(self.files[0]), 0
        rows: list[list[str]] = []
        for number, line in enumerate(read_lines(self.files[0]), start=1):
            parts = [part for part in _BETWEEN.split(line) if part]
            if parts and parts[0] != DOCUMENT:
                first = first if rows else number
                rows.append(
                    [self._part(parts, place, f"{name}:{number}") for place in self._places]
                )
            elif rows:
                yield _example(rows, name, first)
                rows = []
        if rows:
            yield _example(rows, name, first)

    def _part(self, parts: Sequence[str], place: int, where: str) -> str:
        if place >= len(parts) or len(parts) < 2:
            raise DataError(
                f"the line has {len(parts)} column(s), at least {max(place + 1, 2)} are wanted",
                where=where,
                hint="a word and its tag a line, a blank line after each sentence",
            )
        return parts[place]


def _example(rows: Sequence[Sequence[str]], name: str, line: int) -> Example:
    return Example(tuple("\n".join(part) for part in zip(*rows, strict=True)), name, line)


class Agreeing:
    """A source whose columns are lists of as many entries.

    Raises:
        DataError: while reading, where an example's are not.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.columns, self.files, self.identity = source.columns, source.files, source.identity

    def __iter__(self) -> Iterator[Example]:
        for example in self._source:
            sizes = [len(field.split("\n")) if field else 0 for field in example.fields]
            if len(set(sizes)) > 1:
                found = ", ".join(f"{n} {c}" for n, c in zip(sizes, self.columns, strict=True))
                raise DataError(f"every word needs its tag: {found}", where=example.origin)
            yield example
