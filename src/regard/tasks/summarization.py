"""Summarization: long texts in, short ones out; pairs as text to text has them, scored by ROUGE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from regard.metrics import Comparison
from regard.metrics.rouge import KINDS, compare_rouge
from regard.metrics.score import alternatives
from regard.tasks.task import Evaluation, Examples
from regard.tasks.text_to_text import TextToText


class Summarization(TextToText):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "summarization"
    verb: ClassVar[str] = "summarize"
    metrics: ClassVar[tuple[str, ...]] = (*KINDS,)
    uses: ClassVar[tuple[str, ...]] = ("data.prefix",)
    batches: ClassVar[str | tuple[str, ...]] = "pairs"

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """Whether our summaries are better, by a paired test."""
        return compare_rouge(alternatives(examples.references), ours.outputs, theirs.outputs)


TASK = Summarization
