"""What tasks share that learn the next token of packed blocks: language modeling and dialogue.

Examples are encoded, packed into blocks one after another, and scored by how many bits a character
and a byte of the text cost: a model is better with fewer, whatever its tokenizer.
"""

from __future__ import annotations

import itertools
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from regard.data import (
    BlockSettings,
    BlockSource,
    Codec,
    PreparedData,
    PrepareSettings,
    RunningText,
    Source,
    Tokenizer,
    open_source,
    prepare,
)
from regard.data.readers.tables import is_table
from regard.decoding import DecodingSpec
from regard.errors import InputError, RunError
from regard.metrics import Comparison, Score
from regard.objectives import NextToken
from regard.recipe import Recipe, as_settings
from regard.tasks.task import Batches, Evaluation, Examples, Report, Sample, Splits, Task
from regard.tasks.text import TOKENIZER, digest, learned, objective_of, stored
from regard.training import validation_loss

COLUMN = "text"
DEFAULT_BATCH_TOKENS = 4096
SHOWN = 40
"""Tokens of a sample: of a prompt, and of what the model writes."""


class BlockTask(Task):
    """The shared part, under one recipe; see `regard.tasks.task.Task`."""

    family: ClassVar[str] = "gpt"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_character", "bits_per_byte")
    batches: ClassVar[str] = "blocks"
    unit: ClassVar[str] = "documents"
    strategy: ClassVar[str] = "sample"  # a beam cannot be streamed

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()
        self.tokenizer: Tokenizer

    # What a task says of itself

    @property
    def special(self) -> tuple[str, ...]:
        """Extra special entries of a tokenizer that is learned."""
        return ()

    def source(self, data: Mapping[str, Any]) -> Source:
        """What reads data in the recipe's words: a plain text, or the records of a table."""
        if set(data) == {"file"} and not is_table(data["file"]):
            return RunningText(data["file"])
        return open_source(data, columns=(COLUMN,))

    def codecs(self) -> Mapping[str, Codec]:
        """Of an example's columns: the ids, and which of them count where not all do."""
        return {COLUMN: self.tokenizer}

    def apart(self, text: Source) -> bool:
        """Whether examples are documents, which do not see each other, not pieces of one text."""
        return not isinstance(text, RunningText)

    def texts(self, example: str) -> Sequence[str]:
        """The texts that an example holds, to learn a tokenizer from."""
        return (example,)

    def predicted(self, example: str) -> Sequence[str]:
        """The texts in it that the model learns to write."""
        return self.texts(example)

    def batches_of(self, blocks: BlockSource) -> Batches:
        """What the objective is given of the blocks."""
        return blocks

    @property
    def block_length(self) -> int:
        """Tokens of a block that are predicted."""
        return self.longest

    # Data

    def prepare(self, run: Path, report: Report) -> Splits:
        """Learn or read the tokenizer, prepare the text, give the blocks."""
        self.directory = run
        train = self.text("train")
        valid = None if self.recipe.data.valid is None else self.text("valid")
        found = stored(self.recipe, run)
        if found:
            (self.tokenizer,) = found
        else:
            report("learning the tokenizer")
            self.tokenizer = learned(self.recipe, self._all_texts(train), self.special)
            self.tokenizer.save(run / TOKENIZER)
        report("preparing the data")
        held = self._prepared(train)
        batches = self.blocks(held, apart=self.apart(train), shuffle=True)
        notes = self._notes(train, batches, "train on")
        digests = {"train": digest(held)}
        watched: Batches | None = None
        if valid is not None:
            kept = self._prepared(valid)
            blocks = self.blocks(kept, apart=self.apart(valid), shuffle=False)
            watched = self.batches_of(blocks)
            notes += self._notes(valid, blocks, "validate with")
            digests["valid"] = digest(kept)
        return Splits(self.batches_of(batches), watched, tuple(notes), digests)

    def open(self, run: Path) -> None:
        """Read the run's tokenizer."""
        self.directory = run
        found = stored(self.recipe, run)
        if not found:
            raise RunError("the run has no tokenizer", where=str(run / TOKENIZER))
        (self.tokenizer,) = found

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary."""
        return {"vocab_size": self.tokenizer.vocab_size}

    def objective(self) -> Any:
        """The recipe's, usually `NextToken`."""
        return objective_of(self.recipe)

    def text(self, split: str) -> Source:
        """What reads a split of the recipe."""
        return self.source(self.recipe.data_of(split).model_dump(exclude_none=True))

    def _all_texts(self, source: Source) -> Iterator[str]:
        return (text for one in source if one.fields[0] for text in self.texts(one.fields[0]))

    def _prepared(self, text: Source) -> PreparedData:
        cache = Path(self.recipe.data.cache or self.directory / "data")
        return prepare(text, self.codecs(), cache=cache, settings=PrepareSettings(None, "keep"))

    def blocks(self, data: PreparedData, *, apart: bool, shuffle: bool) -> BlockSource:
        """Prepared examples in blocks."""
        training, length = self.recipe.training, self.block_length
        count = training.batch_size or max(
            1, (training.batch_tokens or DEFAULT_BATCH_TOKENS) // length
        )
        separator = self.tokenizer.end_id if apart else None
        return BlockSource(data, BlockSettings(length, count, separator, training.seed, shuffle))

    def _notes(self, text: Source, blocks: BlockSource, purpose: str) -> list[str]:
        data = blocks.data
        what = f"{len(data):,} {self.unit}, " if self.apart(text) else ""
        counted = f" (of which {blocks.labels:,} count)" if len(data.columns) > 1 else ""
        length = blocks.settings.length
        notes = [f"{what}{blocks.length:,} tokens to {purpose}{counted}, in blocks of {length:,}"]
        return notes + [f"left out: {count:,} {reason}" for reason, count in data.dropped.items()]

    @property
    def longest(self) -> int:
        """Tokens that the model reads at most."""
        return int(self.recipe.model_config_for(self.model_settings()).max_positions)

    # Use

    def decoding(self) -> DecodingSpec:
        """The recipe's."""
        return as_settings(self.recipe.decoding, DecodingSpec, where="decoding")

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """The examples of a split, or of ``data``: pieces of text, documents or dialogues."""
        source = self.text(split) if data is None else self.source(data)
        found = [one for one in source if one.fields[0]]
        texts = [one.fields[0] for one in found]
        return Examples(texts, texts, [one.origin for one in found], self.apart(source))

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Loss and perplexity of a token, bits of a character and of a byte.

        Every block is read from its beginning: a token's context is at most ``max_positions``.
        """
        begun = time.perf_counter()
        source = self.in_memory(examples)
        nll = validation_loss(model, NextToken(), source)["nll"]
        bits = nll * source.labels / math.log(2)
        texts = [text for one in examples.sources for text in self.predicted(one)]
        characters, size = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
        scores = {
            "loss": Score("loss", nll, f"nats a token, context {self.longest}"),
            "perplexity": Score("perplexity", math.exp(min(nll, 700.0)), "exp of the loss"),
            "bits_per_character": Score("bits per character", bits / characters, ""),
            "bits_per_byte": Score("bits per byte", bits / size, ""),
        }
        seconds = time.perf_counter() - begun
        return Evaluation(scores, self.show(model, samples) if samples else (), (), seconds)

    def in_memory(self, examples: Examples) -> BlockSource:
        """Examples in blocks, in order.

        Raises:
            InputError: there is no text in them.
        """
        columns = {
            name: codec.encode_batch(examples.sources) for name, codec in self.codecs().items()
        }
        if not any(map(any, columns.values())):
            raise InputError("there is no text to score")
        data = PreparedData.in_memory(columns)
        return self.blocks(data, apart=examples.apart, shuffle=False)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """None: the whole text gives one figure."""
        return ()

    def check_tokenizer(self, count: int) -> str:
        """Whether texts of the training data come back as they went in; says how many do."""
        every = self._all_texts(self.text("train"))
        texts = [self.as_read(text) for text in itertools.islice(every, count)]
        if self.tokenizer.lowercase:
            texts = [text.lower() for text in texts]
        found = [self.tokenizer.decode(row) for row in self.tokenizer.encode_batch(texts)]
        same = sum(a == b for a, b in zip(texts, found, strict=True))
        size = self.tokenizer.vocab_size
        return f"{size:,} entries; {same} of {len(texts)} texts come back as they went in"

    def as_read(self, text: str) -> str:
        """What of a text has to come back from the tokenizer."""
        return text

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """A few validation examples, as they go on and as the model does."""
        if not count or self.recipe.data.valid is None:
            return []
        firsts = (one.fields[0] for one in self.text("valid") if one.fields[0])
        return [self.sample(model, one) for one in itertools.islice(firsts, count)]

    @abstractmethod
    def sample(self, model: nn.Module, example: str) -> Sample:
        """One example, as it goes on and as the model does."""
