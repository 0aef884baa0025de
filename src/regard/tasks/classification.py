"""Classification: a text, or a pair of texts, in; a class, several classes or a number out.

Data are a table with the columns ``text``, ``label`` and, for pairs, ``pair``. The objective says
what a label is: one class (``classes``), any number of them (``multi_label``: a list in JSON lines,
names between spaces in TSV and CSV), or a number (``regression``). (Devlin et al., 2019, section
4.1; scores as GLUE has them, Wang et al., 2018.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from regard.data import Example, PreparedData, Source, open_source
from regard.data.codecs import LIST, Codec, CodecError, Labels, LabelSets, Numbers
from regard.data.framed import Texts
from regard.data.readers.tables import columns_of
from regard.errors import DataError, InputError, RecipeError
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
from regard.tasks.labels import LabelTask
from regard.tasks.task import Evaluation, Examples

TEXT, PAIR, LABEL = "text", "pair", "label"


class Classification(LabelTask):
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
        self.several = kind == "multi_label"
        self.target = (
            Numbers() if kind == "regression" else LabelSets(()) if self.several else Labels(())
        )

    # Data

    @property
    def label_column(self) -> str:
        """Of classes or numbers."""
        return LABEL

    @property
    def text_columns(self) -> tuple[str, ...]:
        """One text, or two where the training data have a ``pair``."""
        train = self.recipe.data.train
        return (TEXT,) if train is None else _sides(train.settings())

    def said(self) -> dict[str, Any]:
        """Whether there are pairs, where the file's own header told it."""
        train = self.recipe.data.train
        if train is None or train.fields is not None:
            return {}
        return {"data.train.fields": {name: name for name in (*self.text_columns, LABEL)}}

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
        sides = _sides(data) if self.recipe.data.train is None else self.text_columns
        return open_source(data, columns=(*sides, LABEL), lists=lists)

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
        head = {"kind": "classification", "num_classes": len(self.labels) or 1}
        return {**super().model_settings(), "head": head}

    # Use

    def predictor(self, model: nn.Module) -> Classifier:
        """The door by which users classify."""
        return Classifier(model, self)

    def logits(self, model: nn.Module, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """What the head answers to texts or pairs, float32 [N, C]."""
        columns = self._columns(texts)
        collate = Texts(tuple(columns), self.frame, self.longest)
        made: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        for batch, found in self.answers(model, columns, collate):
            for number, row in zip(batch["example"].tolist(), found.float().cpu(), strict=True):
                made[number] = row
        return torch.stack(made)

    def framed(self, texts: Sequence[tuple[str, ...]]) -> dict[str, torch.Tensor]:
        """Texts or pairs as the model gets them."""
        columns = self._columns(texts)
        collate = Texts(tuple(columns), self.frame, self.longest)
        made = collate(PreparedData.in_memory(columns), np.arange(len(texts)))
        return {name: made[name] for name in ("ids", "mask", "segments") if name in made}

    def _columns(self, texts: Sequence[tuple[str, ...]]) -> dict[str, list[list[int]]]:
        sides = zip((TEXT, PAIR), zip(*texts, strict=True), strict=False)
        return {name: self.tokenizer.encode_batch(list(side)) for name, side in sides}

    def examples(self, source: Iterable[Example]) -> Examples:
        """Texts (a pair is a tuple) and labels.

        Raises:
            DataError: a label is not known, or missing.
        """
        rows = list(source)
        texts = [one.fields[0] if len(one.fields) == 2 else one.fields[:2] for one in rows]
        labels = [one.fields[-1] for one in rows]
        origins = [one.origin for one in rows]
        try:
            self.target.encode_batch(labels)
        except CodecError as error:
            raise DataError(error.what, where=origins[error.number], hint=error.hint) from None
        return Examples(texts, [self._written(label) for label in labels], origins)

    def _written(self, label: str) -> Any:
        """A label as it is shown and compared; of sets a tuple."""
        return tuple(LabelSets.split(label)) if self.several else label.strip()

    def predict(self, model: nn.Module, examples: Examples) -> list[Any]:
        """The label, labels or number of each example, as the data write them."""
        found = self.predictor(model).classify(list(examples.sources))
        return [one.answer for one in found]

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
        if not self.labels:
            return number_scorers()
        return set_scorers(len(self.labels)) if self.several else class_scorers(self.labels)

    def _comparable(self, answers: Sequence[Any]) -> Any:
        texts = [LIST.join(one) if isinstance(one, tuple) else str(one) for one in answers]
        try:
            rows = [torch.tensor(row).numpy() for row in self.target.encode_batch(texts)]
        except CodecError as error:  # what is read was checked: they are another run's
            raise InputError(
                f"these runs cannot be compared: {error.what}", hint=error.hint
            ) from None
        return self.target.tensor(rows).numpy()


def _sides(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of texts that a table has."""
    file, names = Path(str(data.get("file", ""))), data.get("fields")
    if names is None and file.is_file():
        names = columns_of(file)
    return (TEXT, PAIR) if PAIR in (names or ()) else (TEXT,)


TASK = Classification
