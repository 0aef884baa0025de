"""Summarization: long texts in, short ones out; pairs as text to text has them, scored by ROUGE.

In a file of JSON lines a text may be a list of its sentences, and a summary a list of several that
are right: the first is learned, ROUGE takes the best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from regard.data import Example, Source, open_source, read_lines
from regard.data.codecs import LIST
from regard.data.mixture import Prefixed
from regard.errors import InputError
from regard.metrics import Comparison
from regard.metrics.rouge import KINDS, compare_rouge, rouge
from regard.tasks.task import Evaluation, Examples, Sample
from regard.tasks.text_to_text import TextToText
from regard.tasks.translation import COLUMNS


class Summaries:
    """A table's texts whole and its summaries, of which the first is wanted, or every one.

    Args:
        inner: the table, whose lists come joined by `LIST`.
        lists: which of the columns are lists.
        every: whether all summaries are wanted, still joined.
    """

    def __init__(self, inner: Source, lists: Sequence[str], *, every: bool) -> None:
        self.inner, self.lists, self.every = inner, tuple(lists), every
        self.columns, self.files = inner.columns, inner.files
        self.identity: Mapping[str, Any] = {**inner.identity, "summaries": "every" * every}

    def __iter__(self) -> Iterator[Example]:
        for one in self.inner:
            text, summary = one.fields
            if "source" in self.lists:
                text = text.replace(LIST, " ")
            if "target" in self.lists and not self.every:
                summary = summary.partition(LIST)[0]
            yield Example((text, summary), one.file, one.line)


class Summarization(TextToText):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "summarization"
    verb: ClassVar[str] = "summarize"
    metrics: ClassVar[tuple[str, ...]] = (*KINDS,)
    uses: ClassVar[tuple[str, ...]] = ("data.prefix",)
    batches: ClassVar[str | tuple[str, ...]] = "pairs"

    def source(self, data: Mapping[str, Any], *, every: bool = False) -> Source:
        """Pairs with the recipe's prefix; of several summaries the first, or ``every`` one."""
        lists = list_columns(data)
        if not lists:
            return super().source(data)
        given = {key: value for key, value in data.items() if key != "prefix"}
        table = open_source(given, columns=COLUMNS, lists=lists)
        prefix = data.get("prefix", self.recipe.data.prefix or "")
        return Prefixed(Summaries(table, lists, every=every), prefix)

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """Texts, and each one's summary, or list of those that are right."""
        given = self.recipe.data_of(split).settings() if data is None else data
        found = self._examples(self.source(given, every=True))
        if "target" not in list_columns(given):
            return found
        return replace(found, references=[one.split(LIST) for one in found.references])

    def score(
        self,
        examples: Examples,
        outputs: Sequence[str],
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """ROUGE."""
        right = [[one] if isinstance(one, str) else list(one) for one in examples.references]
        rows = zip(examples.sources, right, outputs, strict=True)
        shown = [Sample(source, wanted[0], made) for source, wanted, made in rows]
        return Evaluation({**rouge(outputs, right, resamples)}, shown[:samples])

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """Whether our summaries are better, by a paired test."""
        right = [[one] if isinstance(one, str) else list(one) for one in examples.references]
        return compare_rouge(right, ours.outputs, theirs.outputs)


def list_columns(data: Mapping[str, Any]) -> list[str]:
    """The columns of a file of JSON lines that are lists in its first line; else none.

    Raises:
        InputError: that is no object.
    """
    path = Path(str(data.get("file", "")))
    if ".jsonl" not in path.suffixes:
        return []
    first = next(read_lines(path), "{}")
    try:
        record = dict(json.loads(first))
    except (TypeError, ValueError) as error:
        raise InputError("is no JSON object", where=f"{path}:1") from error
    fields = data.get("fields") or {column: column for column in COLUMNS}
    return [one for one in COLUMNS if isinstance(record.get(str(fields.get(one))), list)]


TASK = Summarization
