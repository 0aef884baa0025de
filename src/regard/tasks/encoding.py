"""What tasks of a text encoder share: data to batches, batches to answers.

A task says which columns its data have, by which codecs they become ids, how they are collated,
and what an answer means; see `EncoderTask`.
"""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regard.data import (
    BatchSettings,
    BatchSource,
    Example,
    PreparedData,
    PrepareSettings,
    Source,
    Tokenizer,
    prepare,
)
from regard.data.batching import Collate
from regard.data.codecs import Codec
from regard.data.framed import Frame
from regard.errors import RunError
from regard.metrics import Score
from regard.nn.modes import evaluating
from regard.objectives.classes import answers
from regard.recipe import Recipe
from regard.tasks.task import Evaluation, Examples, Report, Sample, Splits, Task
from regard.tasks.text import TOKENIZER, digest, learned, objective_of, stored
from regard.training.objective import on_device

DEFAULT_BATCH_TOKENS = 4096


class EncoderTask(Task):
    """A task of a text encoder under one recipe; see `regard.tasks.task.Task`.

    Attributes:
        tokenizer: of its texts.
        text_columns: of the data, those that hold text.
    """

    family: ClassVar[str] = "bert"
    batches: ClassVar[str] = "labels"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()
        self.tokenizer: Tokenizer

    # What a task says

    @property
    @abstractmethod
    def text_columns(self) -> tuple[str, ...]: ...

    @abstractmethod
    def source(self, data: Mapping[str, Any]) -> Source:
        """The examples that data in the recipe's words describe."""

    @abstractmethod
    def codecs(self) -> dict[str, Codec]:
        """Of each column of prepared data."""

    def fields(self) -> dict[str, str]:
        """The source's column that a column is made of, where its name is another."""
        return {}

    @abstractmethod
    def collate(self) -> Collate:
        """How examples become batches to train on."""

    def learn(self, train: Source) -> None:
        """What the task learns from the training data beside a tokenizer, such as labels."""

    def recall(self) -> None:
        """Read what `learn` wrote into the run."""

    @abstractmethod
    def predict(self, model: nn.Module, examples: Examples) -> Sequence[Any]:
        """What the model answers to each example, comparable to the references."""

    @abstractmethod
    def score(
        self, examples: Examples, answered: Sequence[Any], resamples: int
    ) -> Mapping[str, Score]:
        """Each score of the task."""

    # Data

    def prepare(self, run: Path, report: Report) -> Splits:
        """Learn or read the tokenizer and the labels, prepare the data, give the batches."""
        self.directory = run
        train = self.source(self.recipe.data_of("train").settings())
        found = stored(self.recipe, run)
        if found:
            (self.tokenizer,) = found
        else:
            report("learning the tokenizer")
            self.tokenizer = learned(self.recipe, self.texts(train))
            self.tokenizer.save(run / TOKENIZER)
        self.learn(train)
        report("preparing the data")
        held = self._prepared(train)
        notes = [f"{len(held):,} examples to train on", *self.notes(held)]
        digests = {"train": digest(held)}
        watched: BatchSource | None = None
        if self.recipe.data.valid is not None:
            kept = self._prepared(self.source(self.recipe.data_of("valid").settings()))
            notes += [f"{len(kept):,} examples to validate with", *self.notes(kept)]
            digests["valid"] = digest(kept)
            watched = self.in_order(kept, self.collate())
        return Splits(self._shuffled(held), watched, tuple(notes), digests)

    def open(self, run: Path) -> None:
        """Read the run's tokenizer, and what else it learned."""
        self.directory = run
        found = stored(self.recipe, run)
        if not found:
            raise RunError("the run has no tokenizer", where=str(run / TOKENIZER))
        (self.tokenizer,) = found
        self.recall()

    def texts(self, source: Source) -> Iterator[str]:
        """All text of some data, one text after another."""
        places = [source.columns.index(column) for column in self.text_columns]
        for example in source:
            yield from (example.fields[place] for place in places)

    def _prepared(self, source: Source) -> PreparedData:
        cache = Path(self.recipe.data.cache or self.directory / "data")
        settings = PrepareSettings(None, "keep")
        return prepare(source, self.codecs(), cache=cache, fields=self.fields(), settings=settings)

    def notes(self, data: PreparedData) -> list[str]:
        """Lines worth reading about a split."""
        lines = [f"left out: {count:,} {reason}" for reason, count in data.dropped.items()]
        cut = self.num_cut(data)
        return lines + ([f"{cut:,} are longer than {self.longest} tokens: cut"] if cut else [])

    def num_cut(self, data: PreparedData) -> int:
        """How many examples lose their end."""
        return 0

    def _shuffled(self, data: PreparedData) -> BatchSource:
        training = self.recipe.training
        settings = BatchSettings(
            budget=training.batch_size or training.batch_tokens or DEFAULT_BATCH_TOKENS,
            measure="sentences" if training.batch_size else training.batch_measure,
            seed=training.seed,
            prefetch=training.workers,
        )
        return BatchSource(data, self.collate(), settings)

    def in_order(self, data: PreparedData, collate: Collate) -> BatchSource:
        """Batches for answers alone, alike lengths together."""
        budget = max(self.recipe.training.batch_tokens or DEFAULT_BATCH_TOKENS, self.longest)
        return BatchSource(data, collate, BatchSettings(budget, "padded", shuffle=False))

    # Model

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary."""
        return {"vocab_size": self.tokenizer.vocab_size}

    def objective(self) -> Any:
        """The recipe's."""
        return objective_of(self.recipe)

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
        source = self.in_order(PreparedData.in_memory(columns), collate)
        with evaluating(model), torch.inference_mode():
            for k in range(source.num_micro_batches(0)):
                batch = on_device(source.micro_batch(0, k), device)
                yield batch, answers(model, batch)

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """The examples of a split, or of ``data``, as a reader has them."""
        described = self.recipe.data_of(split).settings() if data is None else data
        return self.examples(filled(self.source(described)))

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
        source = self.source(self.recipe.data_of("valid").settings())
        few = self.examples(itertools.islice(filled(source), count))
        return self._samples(few, self.predict(model, few), count)

    def _samples(self, examples: Examples, answered: Sequence[Any], count: int) -> list[Sample]:
        rows = zip(examples.sources, examples.references, answered, strict=True)
        return [Sample(*map(shown, row)) for row in itertools.islice(rows, count)]

    def check_tokenizer(self, count: int) -> str:
        """Whether texts of the training data come back as they went in; says how many do."""
        source = self.source(self.recipe.data_of("train").settings())
        texts = [" ".join(text.split()) for text in itertools.islice(self.texts(source), count)]
        if self.tokenizer.lowercase:
            texts = [text.lower() for text in texts]
        found = [self.tokenizer.decode(row) for row in self.tokenizer.encode_batch(texts)]
        same = sum(a == b for a, b in zip(texts, found, strict=True))
        size = self.tokenizer.vocab_size
        return f"{size:,} entries; {same} of {len(texts)} texts come back as they went in"


def filled(examples: Iterable[Example]) -> Iterator[Example]:
    """Rows without anything are none."""
    return (one for one in examples if any(field.strip() for field in one.fields))


def shown(value: Any) -> str:
    """An input, a reference or an answer as one text."""
    if isinstance(value, str):
        return value
    return (" | " if isinstance(value, tuple) else " ").join(map(str, value))
