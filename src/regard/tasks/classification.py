"""Classification: a text, or a pair of texts, in; a class, several classes or a number out.

Data are a table with the columns ``text``, ``label`` and, for pairs, ``pair``. The objective says
what a label is: one class (``classes``), any number of them (``multi_label``: a list in JSON lines,
names between spaces in TSV and CSV), or a number (``regression``). (Devlin et al., 2019, section
4.1; scores as GLUE has them, Wang et al., 2018.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from regard.data import Example, PreparedData, Source, open_source
from regard.data.codecs import LIST, Codec, Labels, LabelSets, Numbers, Target
from regard.data.framed import Texts
from regard.errors import RecipeError
from regard.metrics import Comparison, Score
from regard.metrics.classification import (
    class_scorers,
    compare_all,
    number_scorers,
    score_all,
    set_scorers,
)
from regard.recipe import Recipe
from regard.tasks.classifier import Classifier
from regard.tasks.encoding import EncoderTask
from regard.tasks.task import Evaluation, Examples

TEXT, PAIR, LABEL = "text", "pair", "label"
LABELS = "labels.json"


class Classification(EncoderTask):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "classification"
    verb: ClassVar[str] = "classify"
    metrics: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "f1",
        "matthews",
        "exact_match",
        "pearson",
        "spearman",
    )
    stand_in: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 8,
        "head": {"kind": "classification", "num_classes": 2},
    }

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        kind = recipe.objective.kind
        self.target: Target = Numbers() if kind == "regression" else Labels(())
        self.several = kind == "multi_label"

    # Data

    @property
    def text_columns(self) -> tuple[str, ...]:
        """One text, or two where the training data have a ``pair``."""
        train = self.recipe.data.train
        pairs = train is not None and PAIR in (train.fields or {})
        return (TEXT, PAIR) if pairs else (TEXT,)

    def source(self, data: Mapping[str, Any]) -> Source:
        """A table."""
        if "file" not in data:
            raise RecipeError(
                "classification reads a table with the columns text and label",
                where="data",
                hint="give data.train.file and, where its columns have other names, "
                'fields = { text = "sentence", label = "class" }',
            )
        lists = (LABEL,) if self.several else ()
        return open_source(data, columns=(*self.text_columns, LABEL), lists=lists)

    def learn(self, train: Source) -> None:
        """The labels that occur, unless the run knows them already."""
        path = self.directory / LABELS
        if isinstance(self.target, Labels):
            if not path.exists():
                place = train.columns.index(LABEL)
                found = Labels.learn(one.fields[place] for one in train)
                if len(found) < 2:
                    raise RecipeError(
                        f"the training data have {len(found)} label(s), at least 2 are needed",
                        where="data.train",
                        hint="fields.label names the column of the labels",
                    )
                found.save(path)
            self.recall()

    def recall(self) -> None:
        """Read the labels of the run."""
        if isinstance(self.target, Labels):
            kind = LabelSets if self.several else Labels
            self.target = kind.load(self.directory / LABELS)

    def codecs(self) -> dict[str, Codec]:
        """The tokenizer, and the labels."""
        return {**dict.fromkeys(self.text_columns, self.tokenizer), LABEL: self.target}

    def collate(self) -> Texts:
        """Texts with their labels."""
        return Texts(self.text_columns, self.frame, self.longest, (LABEL, self.target))

    def num_cut(self, data: PreparedData) -> int:
        """How many examples lose their end."""
        collate = self.collate()
        whole = sum(data.lengths(name) for name in self.text_columns)
        return int((collate.kept(data).sum(axis=1) < whole).sum())

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary, and the head that the labels need."""
        classes = len(self.target) if isinstance(self.target, Labels) else 1
        head = {"kind": "classification", "num_classes": classes}
        return {**super().model_settings(), "head": head}

    # Use

    def predictor(self, model: nn.Module) -> Classifier:
        """The door by which users classify."""
        return Classifier(model, self)

    def logits(self, model: nn.Module, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """What the head answers to texts or pairs, float32 [N, C]."""
        sides = (TEXT, PAIR)[: len(texts[0])]
        columns = {
            name: self.tokenizer.encode_batch(list(side))
            for name, side in zip(sides, zip(*texts, strict=True), strict=True)
        }
        made: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        for batch, found in self.answers(model, columns, Texts(sides, self.frame, self.longest)):
            for number, row in zip(batch["example"].tolist(), found.float().cpu(), strict=True):
                made[number] = row
        return torch.stack(made)

    def examples(self, source: Iterable[Example]) -> Examples:
        """Texts (a pair is a tuple) and labels."""
        rows = list(source)
        texts = [one.fields[0] if len(one.fields) == 2 else one.fields[:2] for one in rows]
        labels = [one.fields[-1].replace(LIST, " ") for one in rows]
        return Examples(texts, labels, [one.origin for one in rows])

    def predict(self, model: nn.Module, examples: Examples) -> list[str]:
        """The label, labels or number of each example, as the data write them."""
        return [str(found) for found in self.predictor(model).classify(list(examples.sources))]

    def score(
        self, examples: Examples, answered: Sequence[Any], resamples: int
    ) -> dict[str, Score]:
        """The scores that fit the objective."""
        right = self._comparable(examples.references)
        return score_all(self._scorers(), right, self._comparable(answered), resamples)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """By paired bootstrap resampling."""
        rows = (examples.references, ours.outputs, theirs.outputs)
        return compare_all(self._scorers(), *map(self._comparable, rows))

    def _scorers(self) -> Any:
        if not isinstance(self.target, Labels):
            return number_scorers()
        names = self.target.names
        return set_scorers(len(names)) if self.several else class_scorers(names)

    def _comparable(self, labels: Sequence[str]) -> Any:
        lists = [label.replace(" ", LIST) for label in labels] if self.several else labels
        rows = [torch.tensor(row).numpy() for row in self.target.encode_batch(lists)]
        return self.target.tensor(rows).numpy()


TASK = Classification
