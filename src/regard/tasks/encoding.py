"""What tasks of a text encoder share: data to batches, batches to answers.

A task says which columns its data have, by which codecs they become ids, how they are collated,
and what an answer means; see `EncoderTask`.
"""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regard.data import Example, PreparedData, Source
from regard.data.batching import Collate
from regard.data.framed import Frame
from regard.metrics import Score
from regard.nn.modes import evaluating
from regard.objectives.classes import answers
from regard.tasks.task import Evaluation, Examples, Sample
from regard.tasks.text import Split, TextTask
from regard.training.objective import on_device


class EncoderTask(TextTask):
    """A task of a text encoder under one recipe; see `regard.tasks.text.TextTask`.

    Attributes:
        text_columns: of the data, those that hold text.
    """

    family: ClassVar[str] = "bert"
    batches: ClassVar[str] = "labels"

    # What a task says

    @property
    @abstractmethod
    def text_columns(self) -> tuple[str, ...]: ...

    @abstractmethod
    def collate(self) -> Collate:
        """How examples become batches to train on."""

    @abstractmethod
    def predict(self, model: nn.Module, examples: Examples) -> Sequence[Any]:
        """What the model answers to each example, comparable to the references."""

    @abstractmethod
    def score(
        self, examples: Examples, answered: Sequence[Any], resamples: int
    ) -> Mapping[str, Score]:
        """Each score of the task."""

    # Data

    def texts(self, source: Source) -> Iterator[str]:
        """All text of some data, one text after another."""
        places = [source.columns.index(column) for column in self.text_columns]
        for example in source:
            yield from (example.fields[place] for place in places)

    def split(self, source: Source, *, training: bool) -> Split:
        """Examples in batches, with their labels."""
        data, collate = self.prepared(source), self.collate()
        counted = f"{len(data):,} examples to {'train on' if training else 'validate with'}"
        batches = (
            self.shuffled(data, collate) if training else self.in_order(data, collate, self.longest)
        )
        return Split(data, batches, [counted, *self.notes(data)])

    def notes(self, data: PreparedData) -> list[str]:
        """Lines worth reading about a split."""
        cut = self.num_cut(data)
        return [f"{cut:,} are longer than {self.longest} tokens: cut"] if cut else []

    def num_cut(self, data: PreparedData) -> int:
        """How many examples lose their end."""
        return 0

    # Model

    @property
    def longest(self) -> int:
        """Tokens of a text that are read, special ones included."""
        return min(self.recipe.data.max_length, int(self._config.max_positions))

    @property
    def frame(self) -> Frame:
        """The special tokens around a text."""
        return Frame.of(self.tokenizer, int(getattr(self._config, "num_segments", 0)))

    @property
    def _config(self) -> Any:
        return self.recipe.model_config_for(self.model_settings())

    # Use

    def answers(
        self, model: nn.Module, columns: Mapping[str, Sequence[Sequence[int]]], collate: Collate
    ) -> Iterator[tuple[dict[str, Tensor], Any]]:
        """Each batch of some examples in memory, with what the model's head answers to it."""
        device = next(model.parameters()).device
        source = self.in_order(PreparedData.in_memory(columns), collate, self.longest)
        with evaluating(model), torch.inference_mode():
            for k in range(source.num_micro_batches(0)):
                batch = on_device(source.micro_batch(0, k), device)
                yield batch, answers(model, batch)

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """The examples of a split, or of ``data``, as a reader has them."""
        return self.examples(filled(self.text(split) if data is None else self.source(data)))

    @abstractmethod
    def examples(self, source: Iterable[Any]) -> Examples:
        """What a reader sees: inputs and what is right."""

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Answer and score; ``options`` of decoding mean nothing here."""
        begun = time.perf_counter()
        answered = self.predict(model, examples)
        seconds = time.perf_counter() - begun
        scores = self.score(examples, answered, resamples)
        return Evaluation(scores, self._samples(examples, answered, samples), answered, seconds)

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The first few validation examples with what the model answers."""
        if not count or self.recipe.data.valid is None:
            return []
        few = self.examples(itertools.islice(filled(self.text("valid")), count))
        return self._samples(few, self.predict(model, few), count)

    def _samples(self, examples: Examples, answered: Sequence[Any], count: int) -> list[Sample]:
        rows = zip(examples.sources, examples.references, answered, strict=True)
        return [Sample(*map(shown, row)) for row in itertools.islice(rows, count)]

    def as_read(self, text: str) -> str:
        """What is between words does not matter here."""
        return " ".join(text.split())


def filled(examples: Iterable[Example]) -> Iterator[Example]:
    """Rows without anything are none."""
    return (one for one in examples if any(field.strip() for field in one.fields))


def shown(value: Any) -> str:
    """An input, a reference or an answer as one text."""
    if isinstance(value, str):
        return value
    return (" | " if isinstance(value, tuple) else " ").join(map(str, value))
