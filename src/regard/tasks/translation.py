"""Translation: sentence pairs in, a model that turns one into the other.

Data are pairs of lines (or of fields of a table). Source and target share one tokenizer unless
``tokenizer.joint = false``. The score is BLEU over the decoded validation text: sacreBLEU's 13a
tokens of raw text, or, where the text came already segmented (``tokenizer.kind = "words"``), its
own words; the signature says which.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from regard import corpora
from regard.data import (
    BatchSettings,
    BatchSource,
    Example,
    Pairs,
    ParallelText,
    PreparedData,
    PrepareSettings,
    Source,
    Tokenizer,
    open_source,
    prepare,
)
from regard.data.readers import display_name
from regard.decoding import DecodingSpec
from regard.errors import DataError, RunError
from regard.metrics import Comparison, bleu, chrf, compare, exact_match
from regard.recipe import Recipe, as_settings
from regard.tasks.task import Evaluation, Examples, Report, Sample, Splits, Task
from regard.tasks.text import TOKENIZER, digest, learned, objective_of, stored
from regard.tasks.translator import Translator

COLUMNS = ("source", "target")
SOURCE_TOKENIZER = "tokenizer.source.json"
DEFAULT_BATCH_TOKENS = 4096


class Translation(Task):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "translation"
    family: ClassVar[str] = "transformer"
    verb: ClassVar[str] = "translate"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "exact_match")

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()
        self.tokenizers: dict[str, Tokenizer] = {}

    # Data

    def prepare(self, run: Path, report: Report) -> Splits:
        """Learn or read the tokenizers, prepare the pairs, give the batches."""
        self.directory = run
        train = self._text("train")
        valid = None if self.recipe.data.valid is None else self._text("valid")
        if not self._read_tokenizers(run):
            report("learning the tokenizer")
            self._learn_tokenizers(train, run)
        longest = int(self.recipe.model_config_for(self.model_settings()).max_positions) - 1
        limit = min(self.recipe.data.max_length, longest)
        report("preparing the data")
        held = self._prepared(train, PrepareSettings(limit, "drop"))
        notes = [f"{len(held):,} pairs to train on"]
        notes += [f"left out: {count:,} {reason}" for reason, count in held.dropped.items()]
        digests = {"train": digest(held)}
        watched: BatchSource | None = None
        if valid is not None:
            kept = self._prepared(valid, PrepareSettings(longest, "error"))
            notes.append(f"{len(kept):,} pairs to validate with")
            digests["valid"] = digest(kept)
            watched = self._valid_batches(kept)
        return Splits(self._train_batches(held), watched, tuple(notes), digests)

    def open(self, run: Path) -> None:
        """Read the run's tokenizers."""
        self.directory = run
        if not self._read_tokenizers(run):
            raise RunError("the run has no tokenizer", where=str(run / TOKENIZER))

    def model_settings(self) -> dict[str, Any]:
        """Sizes of the vocabularies."""
        sizes = {"vocab_size": self.tokenizers["source"].vocab_size}
        if not self.recipe.tokenizer.joint:
            sizes["target_vocab_size"] = self.tokenizers["target"].vocab_size
        return sizes

    def objective(self) -> Any:
        """Cross-entropy with the recipe's label smoothing, unless it names another."""
        return objective_of(self.recipe)

    def _text(self, split: str) -> Source:
        described = self.recipe.data_of(split)
        if described.corpus is not None:
            files = corpora.write(described.corpus, self._cache / described.corpus)
            return ParallelText({side: files[f"{split}.{side}"] for side in COLUMNS})
        return open_source(described.model_dump(exclude_none=True), columns=COLUMNS)

    @property
    def _cache(self) -> Path:
        return Path(self.recipe.data.cache or self.directory / "data")

    def _read_tokenizers(self, run: Path) -> bool:
        found = stored(self.recipe, run, (TOKENIZER, SOURCE_TOKENIZER))
        self.tokenizers = {"target": found[0], "source": found[-1]} if found else {}
        return bool(found)

    def _learn_tokenizers(self, text: Source, run: Path) -> None:
        if self.recipe.tokenizer.joint:
            joint = learned(self.recipe, _texts(text, COLUMNS))
            self.tokenizers = {"source": joint, "target": joint}
        else:
            self.tokenizers = {
                column: learned(self.recipe, _texts(text, [column])) for column in COLUMNS
            }
            self.tokenizers["source"].save(run / SOURCE_TOKENIZER)
        self.tokenizers["target"].save(run / TOKENIZER)

    def _prepared(self, text: Source, settings: PrepareSettings) -> PreparedData:
        return prepare(text, self.tokenizers, cache=self._cache, settings=settings)

    def _train_batches(self, data: PreparedData) -> BatchSource:
        training = self.recipe.training
        tokens = training.batch_tokens or DEFAULT_BATCH_TOKENS
        settings = BatchSettings(
            budget=training.batch_size or tokens,
            measure="sentences" if training.batch_size else training.batch_measure,
            seed=training.seed,
            prefetch=training.workers,
        )
        return BatchSource(data, self._pairs, settings)

    @property
    def _pairs(self) -> Pairs:
        target = self.tokenizers["target"]
        return Pairs(target.start_id, target.end_id, target.pad_id)

    def _valid_batches(self, data: PreparedData) -> BatchSource:
        longest = max(int(data.lengths(column).max()) for column in COLUMNS) + 1
        budget = max(self.recipe.training.batch_tokens or DEFAULT_BATCH_TOKENS, longest)
        return BatchSource(data, self._pairs, BatchSettings(budget, "padded", shuffle=False))

    # Use

    def predictor(self, model: nn.Module) -> Translator:
        """The door by which users translate."""
        spec = as_settings(self.recipe.decoding, DecodingSpec, where="decoding")
        return Translator(model, self.tokenizers, spec)

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Translate; BLEU, chrF and exact match."""
        begun = time.perf_counter()
        outputs = self.predict(model, examples, options)
        seconds = time.perf_counter() - begun
        found = self.score(examples, outputs, samples=samples, resamples=resamples)
        return replace(found, outputs=outputs, seconds=seconds)

    def predict(
        self, model: nn.Module, examples: Examples, options: Mapping[str, Any] | None = None
    ) -> list[str]:
        """The best translation of each source."""
        wanted: Any = {**(options or {}), "nbest": 1}
        found = self.predictor(model).ranked(examples.sources, origins=examples.origins, **wanted)
        return [row[0].text for row in found]

    def score(
        self,
        examples: Examples,
        outputs: Sequence[str],
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """BLEU, chrF and exact match; 95 % intervals from ``resamples`` where above 0."""
        lowercase, references = self.recipe.tokenizer.lowercase, examples.references
        scores = {
            "bleu": bleu(
                outputs,
                references,
                tokenize=self.bleu_tokens,
                lowercase=lowercase,
                samples=resamples,
            ),
            "chrf": chrf(outputs, references, lowercase=lowercase, samples=resamples),
            "exact_match": exact_match(outputs, references),
        }
        shown = [Sample(*row) for row in zip(examples.sources, references, outputs, strict=True)]
        return Evaluation(scores, shown[:samples])

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """Whether our translations are better, by a paired test."""
        return compare(
            theirs.outputs,
            ours.outputs,
            examples.references,
            tokenize=self.bleu_tokens,
            lowercase=self.recipe.tokenizer.lowercase,
        )

    def check_tokenizer(self, count: int) -> str:
        """Whether texts come back from the tokenizers as they went in; says how many do."""
        pairs = list(itertools.islice(self._text("train"), count))
        same = 0
        for column, place in zip(COLUMNS, range(2), strict=True):
            tokenizer = self.tokenizers[column]
            texts = [" ".join(self._joined(pair.fields[place]).split()) for pair in pairs]
            if tokenizer.lowercase:
                texts = [text.lower() for text in texts]
            ids = tokenizer.encode_batch([pair.fields[place] for pair in pairs])
            same += sum(tokenizer.decode(r) == t for r, t in zip(ids, texts, strict=True))
        sizes = " and ".join(f"{size:,}" for size in self.model_settings().values())
        return f"{sizes} entries; {same} of {2 * len(pairs)} texts come back as they went in"

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The first few validation pairs with what the model makes of them, greedily."""
        if not count or self.recipe.data.valid is None:
            return []
        few = self._examples(itertools.islice(self._text("valid"), count))
        outputs = self.predict(model, few, {"strategy": "greedy"})
        return [Sample(*row) for row in zip(few.sources, few.references, outputs, strict=True)]

    @property
    def bleu_tokens(self) -> str:
        """sacreBLEU's tokenizer: none where the text came segmented."""
        return "none" if self.recipe.tokenizer.kind == "words" else "13a"

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """Sources, and references as a reader has them, of a split or of ``data``."""
        return self._examples(
            self._text(split) if data is None else open_source(data, columns=COLUMNS)
        )

    def _examples(self, text: Iterable[Example]) -> Examples:
        pairs = list(text)
        return Examples(
            [pair.fields[0] for pair in pairs],
            [self._joined(pair.fields[1]) for pair in pairs],
            [pair.origin for pair in pairs],
        )

    def _joined(self, reference: str) -> str:
        """A segmented reference as words, as outputs are."""
        mark = self.recipe.tokenizer.continuation
        return reference.replace(f"{mark} ", "") if mark else reference


def _texts(text: Source, columns: Sequence[str]) -> Iterator[str]:
    places = [text.columns.index(column) for column in columns]
    example = None
    for example in text:
        yield from (example.fields[place] for place in places)
    if example is None:
        raise DataError("there is no example in it", where=display_name(text.files[0]))


TASK = Translation
