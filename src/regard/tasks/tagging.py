"""Tagging: words in, a tag for each of them out, and the spans that the tags spell.

Data are a CoNLL file (a word and its tag a line) or a table whose columns ``words`` and ``tags``
hold lists. A word's tag is learned and read at its first piece (Devlin et al., 2019, section 5.3).
Tags of the form B-x, I-x, O spell spans, which are scored as CoNLL did it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from regard.data import Example, PreparedData, Source, open_source
from regard.data.codecs import LIST, Codec, LabelLists, WordLengths, Words
from regard.data.framed import TaggedTexts, Texts
from regard.data.readers.tables import is_table
from regard.data.readers.tagged import TAGS, WORDS, Agreeing, Conll
from regard.errors import RecipeError
from regard.metrics import Comparison, Score
from regard.metrics.spans import compare_tags, score_tags, spells
from regard.recipe import Recipe
from regard.tasks.labels import LabelTask
from regard.tasks.tagger import Tagger
from regard.tasks.task import Evaluation, Examples

PIECES, LENGTHS = "pieces", "lengths"


class Tagging(LabelTask):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "tagging"
    verb: ClassVar[str] = "tag"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "accuracy")
    stand_in: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 8,
        "head": {"kind": "tokens", "num_classes": 2},
    }

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.target = LabelLists(())
        if recipe.objective.kind in ("multi_label", "regression"):
            raise RecipeError(
                f"{recipe.objective.kind!r} is no objective of tagging: a word has one tag",
                where=recipe.place("objective.kind"),
                hint='write objective.kind = "classes"',
            )

    @property
    def label_column(self) -> str:
        """Lists of tags."""
        return TAGS

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Lists of words."""
        return (WORDS,)

    def source(self, data: Mapping[str, Any]) -> Source:
        """A CoNLL file or a table."""
        return tagged_words(data)

    def recall(self) -> None:
        """Read the tags of the run."""
        super().recall()
        if self.recipe.evaluation.metric == "f1" and not any(spells(tag) for tag in self.labels):
            raise RecipeError(
                "the tags spell no spans: they are not of the form B-x, I-x",
                where="evaluation.metric",
                hint='write "accuracy"',
            )

    def codecs(self) -> dict[str, Codec]:
        """Pieces of words, how many each word has, and tags."""
        words, lengths = Words(self.tokenizer), WordLengths(self.tokenizer)
        return {PIECES: words, LENGTHS: lengths, TAGS: self.target}

    def texts(self, source: Source) -> Iterator[str]:
        """Words with spaces between them."""
        return (text.replace(LIST, " ") for text in super().texts(source))

    def fields(self) -> dict[str, str]:
        """Both come from the words."""
        return {PIECES: WORDS, LENGTHS: WORDS}

    def collate(self) -> TaggedTexts:
        """Texts with a label at the first piece of each word."""
        return TaggedTexts(Texts((PIECES,), self.frame, self.longest), LENGTHS, TAGS)

    def num_cut(self, data: PreparedData) -> int:
        """How many sentences lose their end in training; in use they are read in parts."""
        return int((data.lengths(PIECES) > self.longest - 2).sum())

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary, and the head that the tags need."""
        head = {"kind": "tokens", "num_classes": len(self.labels)}
        return {**super().model_settings(), "head": head}

    # Use

    def predictor(self, model: nn.Module) -> Tagger:
        """The door by which users tag."""
        return Tagger(model, self)

    def tags(self, model: nn.Module, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The likeliest tag of each word; a sentence too long for the model is read in parts."""
        texts = [LIST.join(words) for words in sentences]
        parts = [
            (n, pieces)
            for n, words in enumerate(Words(self.tokenizer).pieces(texts))
            for pieces in _parts(words if sentences[n] else [], self.longest - 2)
        ]
        columns = {
            PIECES: [[i for word in pieces for i in word] for _, pieces in parts],
            LENGTHS: [[len(word) for word in pieces] for _, pieces in parts],
        }
        collate = TaggedTexts(Texts((PIECES,), self.frame, self.longest), LENGTHS, None)
        found: list[list[str]] = [[] for _ in parts]
        for batch, logits in self.answers(model, columns, collate) if parts else ():
            best = logits.argmax(dim=-1)
            for row, number in enumerate(batch["example"].tolist()):
                places = torch.nonzero(batch["firsts"][row])[:, 0]
                found[number] = [self.labels[i] for i in best[row, places].tolist()]
        tags: list[list[str]] = [[] for _ in sentences]
        for (sentence, _), more in zip(parts, found, strict=True):
            tags[sentence] += more
        return tags

    def examples(self, source: Iterable[Example]) -> Examples:
        """Lists of words and lists of tags."""
        rows = list(source)
        words, tags = ([one.fields[i].split(LIST) for one in rows] for i in (0, 1))
        return Examples(words, tags, [one.origin for one in rows])

    def predict(self, model: nn.Module, examples: Examples) -> list[list[str]]:
        """The tags of each sentence."""
        return self.tags(model, examples.sources)

    def score(
        self, examples: Examples, answered: Sequence[Any], resamples: int
    ) -> dict[str, Score]:
        """F1 of spans and accuracy of tags."""
        return score_tags(examples.references, answered, resamples)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """By paired bootstrap resampling of the sentences."""
        return compare_tags(examples.references, ours.outputs, theirs.outputs)


def tagged_words(data: Mapping[str, Any]) -> Source:
    """Lists of words and of tags, of a CoNLL file or of a table.

    Raises:
        RecipeError: no file is named, or columns are not what they must be.
    """
    if "file" not in data:
        raise RecipeError(
            "tagging reads a CoNLL file, or a table with lists of words and tags",
            where="data",
            hint="give data.train.file",
        )
    if is_table(data["file"]):
        lists = (WORDS, TAGS)
        return Agreeing(open_source(data, columns=lists, lists=lists))
    return Conll(Path(data["file"]), data.get("fields"))


def _parts(words: Sequence[list[int]], room: int) -> list[list[list[int]]]:
    """Words in as few runs as fit; a word that alone does not fit loses its end."""
    parts: list[list[list[int]]] = []
    used = room
    for pieces in words:
        taken = pieces[:room]
        if used + len(taken) > room:
            parts.append([])
            used = 0
        parts[-1].append(taken)
        used += len(taken)
    return parts


TASK = Tagging
