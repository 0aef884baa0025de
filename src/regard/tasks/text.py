"""What tasks on text share: their tokenizers, prepared data, and the way from both to batches.

A task says what reads its data, by which codecs columns become ids, and what batches they make;
see `TextTask`.
"""

from __future__ import annotations

import itertools
import shutil
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard import registry
from regard.data import (
    BatchSettings,
    BatchSource,
    PreparedData,
    PrepareSettings,
    Source,
    Tokenizer,
    TokenizerSettings,
    load_tokenizer,
    prepare,
)
from regard.data.batching import Collate
from regard.data.codecs import Codec
from regard.data.learned import learn_once
from regard.data.readers.tables import is_table
from regard.errors import RunError
from regard.recipe import Recipe
from regard.tasks.task import Batches, Report, Splits, Task

TOKENIZER = "tokenizer.json"
DEFAULT_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Split:
    """One split, ready: its prepared data, its batches, and lines worth reading about it."""

    data: PreparedData
    batches: Batches
    notes: Sequence[str]


class TextTask(Task):
    """A task on text under one recipe; see `regard.tasks.task.Task`.

    Attributes:
        recipe, directory: of the run.
        tokenizer: of its texts.
    """

    tokenizer: Tokenizer

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()

    # What a task says

    @abstractmethod
    def source(self, data: Mapping[str, Any]) -> Source:
        """The examples that data in the recipe's words describe."""

    @abstractmethod
    def texts(self, source: Source) -> Iterator[str]:
        """All text of some data, one text after another, to learn a tokenizer from."""

    @abstractmethod
    def codecs(self) -> Mapping[str, Codec]:
        """Of each column of prepared data."""

    def fields(self) -> Mapping[str, str]:
        """The source's column that a column is made of, where its name is another."""
        return {}

    @property
    def special(self) -> tuple[str, ...]:
        """Extra special entries of a tokenizer that is learned."""
        return ()

    @abstractmethod
    def split(self, source: Source, *, training: bool) -> Split:
        """A split to train on, or to validate with."""

    def learn(self, train: Source) -> None:
        """What the task learns from the training data beside a tokenizer, such as labels."""

    def recall(self) -> None:
        """Read what `learn` wrote into the run."""

    def as_read(self, text: str) -> str:
        """What of a text has to come back from the tokenizer."""
        return text

    # Data

    def prepare(self, run: Path, report: Report) -> Splits:
        """Learn or read the tokenizer, prepare the data, give the batches."""
        self.directory = run
        train = self.text("train")
        valid = self.text("valid") if self.recipe.has("valid") else None
        if not self.read_tokenizer():
            report("learning the tokenizer")
            self.learn_tokenizer(train)
        self.learn(train)
        report("preparing the data")
        split = self.split(train, training=True)
        found = {"train": split}
        if valid is not None:
            found["valid"] = self.split(valid, training=False)
        notes = [line for one in found.values() for line in (*one.notes, *left_out(one.data))]
        digests = {name: one.data.digest() for name, one in found.items()}
        watched = found["valid"].batches if valid is not None else None
        return Splits(split.batches, watched, tuple(notes), digests)

    def open(self, run: Path) -> None:
        """Read the run's tokenizer, and what else it learned.

        Raises:
            RunError: it has none.
        """
        self.directory = run
        if not self.read_tokenizer():
            raise RunError("the run has no tokenizer", where=str(run / TOKENIZER))
        self.recall()

    def read_tokenizer(self) -> bool:
        """The run's own, or that of the run whose weights it starts from; whether there is one."""
        found = stored(self.recipe, self.directory)
        if found:
            (self.tokenizer,) = found
        return bool(found)

    def learn_tokenizer(self, train: Source) -> None:
        """As the recipe wants it, from the training data; the run keeps it."""
        self.tokenizer = learned(
            self.recipe, train, self.texts(train), cache=self.cache, extra=self.special
        )
        self.tokenizer.save(self.directory / TOKENIZER)

    def text(self, split: str) -> Source:
        """What reads a split of the recipe."""
        return self.source(self.recipe.data_of(split).settings())

    @property
    def cache(self) -> Path:
        """Where prepared data lie."""
        return Path(self.recipe.data.cache or self.directory / "data")

    def prepared(self, source: Source, settings: PrepareSettings | None = None) -> PreparedData:
        """A source's examples as ids; all of them, unless ``settings`` say otherwise."""
        settings = settings or PrepareSettings(None, "keep")
        return prepare(
            source, self.codecs(), cache=self.cache, fields=self.fields(), settings=settings
        )

    def shuffled(self, data: PreparedData, collate: Collate) -> BatchSource:
        """Batches to train on, of the recipe's size."""
        return shuffled(self.recipe, data, collate)

    def in_order(self, data: PreparedData, collate: Collate, longest: int) -> BatchSource:
        """Batches to score or to answer, alike lengths together; ``longest`` fits into one."""
        budget = max(self.recipe.training.batch_tokens or DEFAULT_BATCH_TOKENS, longest)
        return BatchSource(data, collate, BatchSettings(budget, "padded", shuffle=False))

    def check_inputs(self, count: int) -> str:
        """Whether texts of the training data come back as they went in; says how many do."""
        every = self.texts(self.text("train"))
        texts = [self.as_read(text) for text in itertools.islice(every, count)]
        same = num_kept(self.tokenizer, texts, texts)
        return come_back(f"{self.tokenizer.vocab_size:,}", same, len(texts))

    # Model

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary."""
        return {"vocab_size": self.tokenizer.vocab_size}

    def objective(self) -> Any:
        """The recipe's, or the task's usual one."""
        return objective_of(self.recipe)


def stored(recipe: Recipe, run: Path, names: Sequence[str] = (TOKENIZER,)) -> list[Tokenizer]:
    """The tokenizers of the run, or of the run whose weights it starts from; each that is there.

    Those of another run are copied here.
    """
    start = recipe.model.get("start_from")
    if not (run / names[0]).exists() and start is not None:
        for name in names:
            if (Path(str(start)) / name).exists():
                shutil.copyfile(Path(str(start)) / name, run / name)
    return [load_tokenizer(run / name) for name in names if (run / name).exists()]


def learned(
    recipe: Recipe,
    source: Source,
    texts: Iterable[str],
    *,
    cache: Path,
    columns: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer as the recipe wants it, learned once from a source's texts.

    Args:
        recipe: says what kind.
        source, texts: what it is learned from.
        cache: of prepared data.
        columns: of the source that the texts are, where the task alone does not say it.
        extra: special entries beside the usual ones.
    """
    given = recipe.tokenizer
    settings = TokenizerSettings(
        given.kind, given.vocab_size, given.lowercase, given.continuation or None, tuple(extra)
    )
    what = " ".join((recipe.task, *columns))
    return learn_once(settings, source, texts, cache=cache, what=what)


def shuffled(
    recipe: Recipe, data: PreparedData, collate: Collate, *, threads: int = 1
) -> BatchSource:
    """Batches to train on, of the recipe's size.

    Args:
        recipe: says how large they are, and how many are made ahead.
        data, collate: what they are made of.
        threads: that make them.
    """
    training = recipe.training
    settings = BatchSettings(
        budget=training.batch_size or training.batch_tokens or DEFAULT_BATCH_TOKENS,
        measure="sentences" if training.batch_size else training.batch_measure,
        seed=training.seed,
        prefetch=training.workers,
        threads=threads,
    )
    return BatchSource(data, collate, settings)


def objective_of(recipe: Recipe) -> Any:
    """The recipe's loss; what it does not say is the objective's own default."""
    settings = recipe.objective
    smoothing = settings.label_smoothing
    given = {} if smoothing is None else {"label_smoothing": smoothing}
    return registry.kind("objectives", settings.kind)(**given, **settings.own)


def with_columns(recipe: Recipe, data: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Data of a table, with the recipe's own names of its columns where they are not given."""
    if data is None or "file" not in data or not is_table(data["file"]):
        return data
    splits = (recipe.data.test, recipe.data.train)
    named = next((split.fields for split in splits if split is not None and split.fields), None)
    given = data.get("fields") or {}
    return {**data, "fields": {**named, **given}} if named and isinstance(given, Mapping) else data


def left_out(data: PreparedData) -> list[str]:
    """Lines that say what is missing, and why."""
    return [f"left out: {count:,} {reason}" for reason, count in data.dropped.items()]


def num_kept(tokenizer: Tokenizer, texts: Sequence[str], wanted: Sequence[str]) -> int:
    """How many texts come back from the tokenizer as they are wanted."""
    if tokenizer.lowercase:
        wanted = [text.lower() for text in wanted]
    found = (tokenizer.decode(row) for row in tokenizer.encode_batch(list(texts)))
    return sum(a == b for a, b in zip(found, wanted, strict=True))


def come_back(sizes: str, same: int, count: int) -> str:
    """The line that says so."""
    return f"{sizes} entries; {same} of {count} texts come back as they went in"
