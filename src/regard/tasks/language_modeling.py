"""Language modeling: plain text in, a model that writes on.

Training data are a text file, read as one text (``data.train = { file = "input.txt" }``), or a
table of which each record is a document of its own (``fields = { text = "story" }``): documents are
packed into blocks, and attention does not cross their edges. The score is how many bits a character
and a byte of the text cost; a model is better with fewer, whatever its tokenizer.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from regard.data import (
    BlockSettings,
    BlockSource,
    PreparedData,
    PrepareSettings,
    RunningText,
    Source,
    Tokenizer,
    open_source,
    prepare,
)
from regard.decoding import DecodingSpec
from regard.errors import InputError, RunError
from regard.metrics import Comparison, Score
from regard.objectives import NextToken
from regard.recipe import Recipe, as_settings
from regard.tasks.generator import Generator
from regard.tasks.task import Evaluation, Examples, Report, Sample, Splits, Task
from regard.tasks.text import TOKENIZER, digest, learned, objective_of, stored
from regard.training import validation_loss

COLUMN = "text"
TABLES = (".tsv", ".csv", ".jsonl", ".parquet")
DEFAULT_BATCH_TOKENS = 4096
SHOWN = 40
"""Tokens of a sample's prompt, and of what the model writes on."""


class LanguageModeling(Task):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "language-modeling"
    family: ClassVar[str] = "gpt"
    verb: ClassVar[str] = "generate"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_character", "bits_per_byte")
    batches: ClassVar[str] = "blocks"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()
        self.tokenizer: Tokenizer

    # Data

    def prepare(self, run: Path, report: Report) -> Splits:
        """Learn or read the tokenizer, prepare the text, give the blocks."""
        self.directory = run
        train = self._text("train")
        valid = None if self.recipe.data.valid is None else self._text("valid")
        found = stored(self.recipe, run)
        if found:
            (self.tokenizer,) = found
        else:
            report("learning the tokenizer")
            self.tokenizer = learned(self.recipe, (one.fields[0] for one in train))
            self.tokenizer.save(run / TOKENIZER)
        report("preparing the data")
        held = self._prepared(train)
        batches = self._blocks(held, apart=_apart(train), shuffle=True)
        notes = [_note(train, batches, "train on")]
        digests = {"train": digest(held)}
        watched: BlockSource | None = None
        if valid is not None:
            kept = self._prepared(valid)
            watched = self._blocks(kept, apart=_apart(valid), shuffle=False)
            notes.append(_note(valid, watched, "validate with"))
            digests["valid"] = digest(kept)
        return Splits(batches, watched, tuple(notes), digests)

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

    def _text(self, split: str) -> Source:
        return self._source(self.recipe.data_of(split).model_dump(exclude_none=True))

    def _source(self, data: Mapping[str, Any]) -> Source:
        path = str(data.get("file", ""))
        if path and "fields" not in data and not path.removesuffix(".gz").endswith(TABLES):
            unknown = [key for key in data if key != "file"]
            if not unknown:
                return RunningText(path)
        return open_source(data, columns=(COLUMN,))

    def _prepared(self, text: Source) -> PreparedData:
        cache = Path(self.recipe.data.cache or self.directory / "data")
        tokenizers = {COLUMN: self.tokenizer}
        return prepare(text, tokenizers, cache=cache, settings=PrepareSettings(None, "keep"))

    def _blocks(self, data: PreparedData, *, apart: bool, shuffle: bool) -> BlockSource:
        training, length = self.recipe.training, self._longest()
        count = training.batch_size or max(
            1, (training.batch_tokens or DEFAULT_BATCH_TOKENS) // length
        )
        separator = self.tokenizer.end_id if apart else None
        return BlockSource(data, BlockSettings(length, count, separator, training.seed, shuffle))

    def _longest(self) -> int:
        return int(self.recipe.model_config_for(self.model_settings()).max_positions)

    # Use

    def predictor(self, model: nn.Module) -> Generator:
        """The door by which users let the model write on."""
        spec = as_settings(self.recipe.decoding, DecodingSpec, where="decoding")
        return Generator(model, self.tokenizer, spec)

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """The text of a split, or of ``data``, in pieces or documents."""
        source = self._text(split) if data is None else self._source(data)
        found = list(source)
        texts = [one.fields[0] for one in found]
        return Examples(texts, texts, [one.origin for one in found])

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
        rows = self.tokenizer.encode_batch(list(examples.sources))
        if not any(rows):
            raise InputError("there is no text to score")
        data = PreparedData.in_memory({COLUMN: rows})
        apart = self.recipe.data.train is not None and _apart(self._text("train"))
        source = self._blocks(data, apart=apart, shuffle=False)
        nll = validation_loss(model, NextToken(), source)["nll"]
        bits = nll * float(source.tokens(0).sum()) / math.log(2)
        characters = sum(map(len, examples.sources))
        size = sum(len(text.encode()) for text in examples.sources)
        scores = {
            "loss": Score("loss", nll, f"nats a token, context {self._longest()}"),
            "perplexity": Score("perplexity", math.exp(min(nll, 700.0)), "exp of the loss"),
            "bits_per_character": Score("bits per character", bits / characters, ""),
            "bits_per_byte": Score("bits per byte", bits / size, ""),
        }
        seconds = time.perf_counter() - begun
        return Evaluation(scores, self.show(model, samples) if samples else (), (), seconds)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """None: the whole text gives one figure."""
        return ()

    def check_tokenizer(self, count: int) -> str:
        """Whether pieces of the training text come back as they went in; says how many do."""
        texts = [one.fields[0] for one in itertools.islice(self._text("train"), count)]
        if self.tokenizer.lowercase:
            texts = [text.lower() for text in texts]
        found = [self.tokenizer.decode(row) for row in self.tokenizer.encode_batch(texts)]
        same = sum(a == b for a, b in zip(texts, found, strict=True))
        size = self.tokenizer.vocab_size
        return f"{size:,} entries; {same} of {len(texts)} texts come back as they went in"

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The beginnings of a few validation texts, as they go on and as the model does."""
        if not count or self.recipe.data.valid is None:
            return []
        shown = []
        generator = self.predictor(model)
        for one in itertools.islice(self._text("valid"), count):
            ids = self.tokenizer.encode(one.fields[0])
            half = min(SHOWN, self._longest() // 2, max(1, len(ids) // 2))
            prompt = self.tokenizer.decode(ids[:half])
            written = generator.generate(prompt, strategy="greedy", max_new_tokens=half)
            goes_on = self.tokenizer.decode(ids[half : 2 * half])
            shown.append(Sample(prompt, goes_on, written.removeprefix(prompt)))
        return shown


def _apart(text: Source) -> bool:
    """Whether its examples are documents, not pieces of one text."""
    return not isinstance(text, RunningText)


def _note(text: Source, blocks: BlockSource, purpose: str) -> str:
    what = f"{len(blocks.data):,} documents, " if _apart(text) else ""
    return f"{what}{blocks.length:,} tokens to {purpose}, in blocks of {blocks.settings.length:,}"


TASK = LanguageModeling
