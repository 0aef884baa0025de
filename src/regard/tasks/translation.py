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
from typing import Any, ClassVar

from torch import nn

from regard.data import (
    Codec,
    Example,
    Pairs,
    ParallelText,
    PrepareSettings,
    Source,
    Tokenizer,
    open_source,
)
from regard.data.readers import display_name
from regard.decoding import DecodingSpec
from regard.errors import DataError
from regard.metrics import Comparison, bleu, chrf, compare, exact_match
from regard.recipe import Recipe, as_settings
from regard.tasks.task import Evaluation, Examples, Sample
from regard.tasks.text import (
    TOKENIZER,
    Split,
    TextTask,
    come_back,
    learned,
    num_kept,
    stored,
)
from regard.tasks.translator import Translator

COLUMNS = ("source", "target")
SOURCE_TOKENIZER = "tokenizer.source.json"


class Translation(TextTask):
    """The task under one recipe; see `regard.tasks.text.TextTask`."""

    name: ClassVar[str] = "translation"
    family: ClassVar[str] = "transformer"
    verb: ClassVar[str] = "translate"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "exact_match")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.tokenizers: dict[str, Tokenizer] = {}

    # Data

    def text(self, split: str) -> Source:
        """What reads a split of the recipe: its files, or a corpus that regard makes."""
        described = self.recipe.data_of(split)
        if described.corpus is None:
            return self.source(described.settings())
        from regard import corpora  # words and grammar that no other data need

        files = corpora.write(described.corpus, self.cache / described.corpus)
        return ParallelText({side: files[f"{split}.{side}"] for side in COLUMNS})

    def source(self, data: Mapping[str, Any]) -> Source:
        """Two files of lines, or a table."""
        return open_source(data, columns=COLUMNS)

    def texts(self, source: Source) -> Iterator[str]:
        """Both sides."""
        return _texts(source, COLUMNS)

    def codecs(self) -> Mapping[str, Codec]:
        """A tokenizer for each side."""
        return self.tokenizers

    def split(self, source: Source, *, training: bool) -> Split:
        """Pairs in batches; those to train on that are too long are left out."""
        most = int(self.recipe.model_config_for(self.model_settings()).max_positions) - 1
        if training:
            limit = min(self.recipe.data.max_length, most)
            data = self.prepared(source, PrepareSettings(limit, "drop"))
            note = f"{len(data):,} pairs to train on"
            return Split(data, self.shuffled(data, self._pairs), [note])
        data = self.prepared(source, PrepareSettings(most, "error"))
        longest = max(int(data.lengths(column).max()) for column in COLUMNS) + 1
        note = f"{len(data):,} pairs to validate with"
        return Split(data, self.in_order(data, self._pairs, longest), [note])

    @property
    def _pairs(self) -> Pairs:
        target = self.tokenizers["target"]
        return Pairs(target.start_id, target.end_id, target.pad_id)

    def read_tokenizer(self) -> bool:
        """One for both sides, or one for each."""
        found = stored(self.recipe, self.directory, (TOKENIZER, SOURCE_TOKENIZER))
        self.tokenizers = {"target": found[0], "source": found[-1]} if found else {}
        return bool(found)

    def learn_tokenizer(self, train: Source) -> None:
        """From both sides together unless ``tokenizer.joint`` is false."""
        if self.recipe.tokenizer.joint:
            joint = self._learned(train, COLUMNS)
            self.tokenizers = {"source": joint, "target": joint}
        else:
            self.tokenizers = {column: self._learned(train, [column]) for column in COLUMNS}
            self.tokenizers["source"].save(self.directory / SOURCE_TOKENIZER)
        self.tokenizers["target"].save(self.directory / TOKENIZER)

    def _learned(self, train: Source, columns: Sequence[str]) -> Tokenizer:
        texts = _texts(train, columns)
        return learned(self.recipe, train, texts, cache=self.cache, columns=columns)

    def model_settings(self) -> dict[str, Any]:
        """Sizes of the vocabularies."""
        sizes = {"vocab_size": self.tokenizers["source"].vocab_size}
        if not self.recipe.tokenizer.joint:
            sizes["target_vocab_size"] = self.tokenizers["target"].vocab_size
        return sizes

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

    def check_inputs(self, count: int) -> str:
        """Whether texts come back from the tokenizers as they went in; says how many do."""
        pairs = list(itertools.islice(self.text("train"), count))
        same = 0
        for place, column in enumerate(COLUMNS):
            texts = [pair.fields[place] for pair in pairs]
            wanted = [" ".join(self._joined(text).split()) for text in texts]
            same += num_kept(self.tokenizers[column], texts, wanted)
        sizes = " and ".join(f"{size:,}" for size in self.model_settings().values())
        return come_back(sizes, same, 2 * len(pairs))

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The first few validation pairs with what the model makes of them, greedily."""
        if not count or not self.recipe.has("valid"):
            return []
        few = self._examples(itertools.islice(self.text("valid"), count))
        outputs = self.predict(model, few, {"strategy": "greedy"})
        return [Sample(*row) for row in zip(few.sources, few.references, outputs, strict=True)]

    @property
    def bleu_tokens(self) -> str:
        """sacreBLEU's tokenizer: none where the text came segmented."""
        return "none" if self.recipe.tokenizer.kind == "words" else "13a"

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """Sources, and references as a reader has them, of a split or of ``data``."""
        return self._examples(self.text(split) if data is None else self.source(data))

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
