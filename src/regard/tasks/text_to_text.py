"""Text to text: pairs of texts, of one task or of several that a prefix tells apart.

Data are pairs of lines (or of fields of a table), with ``data.prefix`` before every source; or a
``mixture`` of such data, each with its prefix, its rate and its scores. In JSON lines a text may be
a list of its sentences, and a target a list of several that are right. With the objective
``span_corruption`` data are plain text; see `regard.tasks.denoising`. (Raffel et al., 2020.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from regard.data import BatchSource, Codec, Example, PreparedData, Source
from regard.data.batching import Collate
from regard.data.codecs import LIST
from regard.data.mixture import PART, Joined, Mixing, PartCodec, Prefixed
from regard.decoding import DecodingSpec
from regard.errors import RecipeError
from regard.metrics import Comparison, Score, bleu, chrf, exact_match
from regard.metrics.rouge import KINDS, rouge
from regard.metrics.score import alternatives
from regard.metrics.squad import score_answers
from regard.recipe import Recipe, as_settings
from regard.recipe.sections import Mixed
from regard.tasks.denoising import Denoising
from regard.tasks.listed import has_several, with_lists
from regard.tasks.task import Evaluation, Examples, Sample, Task
from regard.tasks.text import Split
from regard.tasks.translation import COLUMNS, Translation
from regard.tasks.writer import Writer


@dataclass(frozen=True)
class MixedExamples(Examples):
    """Examples of several tasks.

    Attributes:
        parts: the number of each one's task.
    """

    parts: Sequence[int] = ()

    def first(self, count: int) -> Examples:
        """The first few."""
        few = super().first(count)
        return MixedExamples(few.sources, few.references, few.origins, parts=self.parts[:count])


class TextToText(Translation):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "text-to-text"
    family: ClassVar[str] = "t5"
    verb: ClassVar[str] = "generate"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "exact_match", "f1", *KINDS)
    batches: ClassVar[str | tuple[str, ...]] = ("pairs", "spans")
    uses: ClassVar[tuple[str, ...]] = ("mixture", "data.prefix")

    @classmethod
    def under(cls, recipe: Recipe) -> Task:
        """Of plain text where spans of it are to be hidden."""
        return Denoising(recipe) if recipe.objective.kind == "span_corruption" else cls(recipe)

    # Data

    @property
    def mixture(self) -> Sequence[Mixed]:
        """The tasks, where there are several."""
        return self.recipe.mixture or ()

    def text(self, split: str, *, every: bool = False) -> Source:
        """What reads a split of the recipe: prefixed pairs, those of all tasks end to end.

        Of several targets the first, or ``every`` one.
        """
        if not self.mixture:
            described, prefix = self.recipe.data_of(split), self.recipe.data.prefix or ""
            made = described.corpus is not None
            found = super().text(split) if made else self._pairs_of(described.settings(), every)
            return Prefixed(found, prefix)
        parts = dict[int, Source]()
        for number, one in enumerate(self.mixture):
            data = getattr(one, split)
            if data is None:
                continue
            try:
                parts[number] = Prefixed(self._pairs_of(data.settings(), every), one.prefix)
            except RecipeError as error:
                where = error.where or self.recipe.place(f"mixture.{number + 1}.{split}")
                raise RecipeError(error.what, where=where, hint=error.hint) from None
        return Joined(parts)

    def source(self, data: Mapping[str, Any], *, every: bool = False) -> Source:
        """Pairs as `text` gives them; ``prefix`` beside the files says another than the recipe."""
        given = {key: value for key, value in data.items() if key != "prefix"}
        prefix = data.get("prefix", self.recipe.data.prefix or "")
        return Prefixed(self._pairs_of(given, every), prefix)

    def _pairs_of(self, data: Mapping[str, Any], every: bool) -> Source:
        return with_lists(super().source(data), every=every)

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """Sources, and each one's reference, or list of those that are right."""
        source = self.text(split, every=True) if data is None else self.source(data, every=True)
        found = self._examples(source)
        tasks = source.parts if isinstance(source, Joined) else {0: source}
        several = {number for number, one in tasks.items() if has_several(one)}
        parts = found.parts if isinstance(found, MixedExamples) else [0] * len(found)
        rows = zip(parts, found.references, strict=True)
        return replace(
            found, references=[one.split(LIST) if n in several else one for n, one in rows]
        )

    def split(self, source: Source, *, training: bool) -> Split:
        """The same as of translation; tells of each task, and where they cannot be told apart."""
        found, prefixes = super().split(source, training=training), self.prefixes
        if prefixes:
            found = replace(found, notes=[*found.notes, *self._counts(found.data)])
        if not training or len(prefixes) == len(set(prefixes)):
            return found
        note = (
            "tasks of the mixture have the same prefix, or none: the model cannot tell them apart"
        )
        return replace(found, notes=[*found.notes, note])

    def _counts(self, data: PreparedData) -> Iterator[str]:
        """How many pairs each task has of a split, and how long they are, the prefix counted."""
        parts = data.column(PART).ids
        for number, one in enumerate(self.mixture):
            source, target = (data.lengths(side)[parts == number] for side in COLUMNS)
            told = f"{len(source):,} pairs"
            if len(source):
                told += (
                    f"; source {source.mean():.1f} tokens on average, {source.max():,} at most"
                    f"; target {target.mean():.1f}, {target.max():,} at most"
                )
            yield f"task {one.name or number + 1}, prefix {one.prefix!r}: {told}"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Of the tasks, where there are several."""
        return tuple(one.prefix for one in self.mixture)

    def codecs(self) -> Mapping[str, Codec]:
        """A tokenizer for each side, and the number of an example's task."""
        return {**super().codecs(), **({PART: PartCodec()} if self.mixture else {})}

    def shuffled(self, data: PreparedData, collate: Collate) -> BatchSource:
        """Batches to train on; an epoch of a mixture has of each task by its rate."""
        found = super().shuffled(data, collate)
        if not self.mixture:
            return found
        rates = [one.rate for one in self.mixture]
        seed = self.recipe.training.seed
        mixing = Mixing(data.column(PART).ids.astype("int64"), rates, seed)
        return BatchSource(data, collate, found.settings, mixing)

    def _examples(self, text: Iterable[Example]) -> Examples:
        rows = list(text)
        found = super()._examples(rows)
        if not rows or len(rows[0].fields) < 3:
            return found
        parts = [int(row.fields[2]) for row in rows]
        return MixedExamples(found.sources, found.references, found.origins, parts=parts)

    # Use

    def predictor(self, model: nn.Module) -> Writer:
        """The door by which users have text written."""
        spec = as_settings(self.recipe.decoding, DecodingSpec, where="decoding")
        prefix = self.recipe.data.prefix or ""
        return Writer(model, self.tokenizers["target"], spec, prefix, self.prefixes)

    def predict(
        self, model: nn.Module, examples: Examples, options: Mapping[str, Any] | None = None
    ) -> list[str]:
        """The best output of each source, which has its prefix already."""
        wanted: Any = {**(options or {}), "nbest": 1, "prefix": ""}
        return super().predict(model, examples, wanted)

    def score(
        self,
        examples: Examples,
        outputs: Sequence[str],
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Every score; of a mixture those of each task, and their means."""
        right = alternatives(examples.references)
        shown = zip(examples.sources, right, outputs, strict=True)
        few = [Sample(source, wanted[0], made) for source, wanted, made in [*shown][:samples]]
        if not isinstance(examples, MixedExamples):
            found = self.scores(self.metrics, outputs, examples.references, resamples)
            return Evaluation(found, few)
        scores: dict[str, Score] = {}
        for number, one in enumerate(self.mixture):
            rows = [n for n, part in enumerate(examples.parts) if part == number]
            if not rows:
                continue
            name = one.name or str(number + 1)
            made, wanted = ([held[n] for n in rows] for held in (outputs, examples.references))
            found = self.scores(one.metrics or self.metrics, made, wanted, resamples)
            scores |= {
                f"{name}.{key}": replace(score, name=f"{name}: {score.name}")
                for key, score in found.items()
            }
        return Evaluation({**scores, **_means(scores)}, few)

    def scores(
        self,
        metrics: Sequence[str],
        outputs: Sequence[str],
        references: Sequence[str | Sequence[str]],
        resamples: int = 0,
    ) -> dict[str, Score]:
        """Those that are wanted, with 95 % intervals from ``resamples`` where above 0.

        Where a reference is a list, BLEU and chrF count all in it, the others the best.
        """
        lowercase = self.recipe.tokenizer.lowercase
        found: dict[str, Score] = {}
        if "bleu" in metrics:
            found["bleu"] = bleu(
                outputs,
                references,
                tokenize=self.bleu_tokens,
                lowercase=lowercase,
                samples=resamples,
            )
        if "chrf" in metrics:
            found["chrf"] = chrf(outputs, references, lowercase=lowercase, samples=resamples)
        if "exact_match" in metrics:
            found["exact_match"] = exact_match(outputs, references)
        if "f1" in metrics:
            found["f1"] = score_answers(alternatives(references), outputs, resamples)["f1"]
        if any(key in metrics for key in KINDS):
            found |= {
                key: score
                for key, score in rouge(outputs, alternatives(references), resamples).items()
                if key in metrics
            }
        return found

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """Whether our outputs are better, by a paired test; of a mixture none."""
        if isinstance(examples, MixedExamples):
            return ()
        return super().compare(examples, ours, theirs)


def _means(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Of each score the mean over the tasks that have it."""
    found: dict[str, list[Score]] = {}
    for key, score in scores.items():
        found.setdefault(key.rpartition(".")[2], []).append(score)
    return {
        key: Score(
            "mean: " + one[0].name.partition(": ")[2],
            sum(score.value for score in one) / len(one),
            f"mean of {len(one)} tasks",
        )
        for key, one in found.items()
    }


TASK = TextToText
