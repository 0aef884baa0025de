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
from typing import Any, ClassVar

from torch import nn

from regard.data import (
    BlockSettings,
    BlockSource,
    Codec,
    PreparedData,
    RunningText,
    Source,
    open_source,
)
from regard.data.readers.tables import is_table
from regard.decoding import DecodingSpec
from regard.errors import InputError
from regard.metrics import Comparison, Score
from regard.objectives import NextToken
from regard.recipe import as_settings
from regard.tasks.task import Batches, Evaluation, Examples, Sample
from regard.tasks.text import DEFAULT_BATCH_TOKENS, Split, TextTask
from regard.training import validation_loss

COLUMN = "text"
SHOWN = 40
"""Tokens of a sample: of a prompt, and of what the model writes."""


class BlockTask(TextTask):
    """The shared part, under one recipe; see `regard.tasks.text.TextTask`."""

    family: ClassVar[str] = "gpt"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_character", "bits_per_byte")
    batches: ClassVar[str | tuple[str, ...]] = "blocks"
    unit: ClassVar[str] = "documents"
    strategy: ClassVar[str] = "sample"  # a beam cannot be streamed

    # What a task says of itself

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

    def texts_in(self, example: str) -> Sequence[str]:
        """The texts that an example holds."""
        return (example,)

    def predicted(self, example: str) -> Sequence[str]:
        """The texts in it that the model learns to write."""
        return self.texts_in(example)

    def batches_of(self, blocks: BlockSource) -> Batches:
        """What the objective is given of the blocks."""
        return blocks

    @property
    def block_length(self) -> int:
        """Tokens of a block that are predicted."""
        return self.longest

    # Data

    def texts(self, source: Source) -> Iterator[str]:
        """All text of some data."""
        return (text for one in source if one.fields[0] for text in self.texts_in(one.fields[0]))

    def split(self, source: Source, *, training: bool) -> Split:
        """Examples in blocks."""
        data, apart = self.prepared(source), self.apart(source)
        blocks = self.blocks(data, apart=apart, shuffle=training)
        what = f"{len(data):,} {self.unit}, " if apart else ""
        purpose = "train on" if training else "validate with"
        counted = f" (of which {blocks.labels:,} count)" if len(data.columns) > 1 else ""
        length = blocks.settings.length
        note = f"{what}{blocks.length:,} tokens to {purpose}{counted}, in blocks of {length:,}"
        return Split(data, self.batches_of(blocks), [note])

    def blocks(self, data: PreparedData, *, apart: bool, shuffle: bool) -> BlockSource:
        """Prepared examples in blocks."""
        training, length = self.recipe.training, self.block_length
        count = training.batch_size or max(
            1, (training.batch_tokens or DEFAULT_BATCH_TOKENS) // length
        )
        separator = self.tokenizer.end_id if apart else None
        return BlockSource(data, BlockSettings(length, count, separator, training.seed, shuffle))

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

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """A few validation examples, as they go on and as the model does."""
        if not count or self.recipe.data.valid is None:
            return []
        firsts = (one.fields[0] for one in self.text("valid") if one.fields[0])
        return [self.sample(model, one) for one in itertools.islice(firsts, count)]

    @abstractmethod
    def sample(self, model: nn.Module, example: str) -> Sample:
        """One example, as it goes on and as the model does."""
