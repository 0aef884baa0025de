"""What tasks share whose answers have names: classes of texts and pictures, tags of words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from regard.data import PreparedData, Source
from regard.data.codecs import Labels, LabelSets, Target
from regard.errors import RecipeError
from regard.recipe import Recipe
from regard.tasks.encoding import EncoderTask

LABELS = "labels.json"

MANY = 20
"""Labels that are counted one by one at most."""


class Labeled(ABC):
    """A task whose labels are learned from the training data and kept in the run.

    Attributes:
        recipe, directory: of the run.
        target: the labels, or numbers, which have no names.
    """

    recipe: Recipe
    directory: Path
    target: Target

    @property
    @abstractmethod
    def label_column(self) -> str:
        """Of the data, the one that holds labels."""

    @property
    def label_hint(self) -> str:
        """Where a user finds the labels."""
        return f"fields.{self.label_column} says which column holds them"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names in the order of the head's answers; none of numbers."""
        return self.target.names if isinstance(self.target, Labels) else ()

    def learn(self, train: Source) -> None:
        """The labels that occur, unless the run knows them already."""
        path = self.directory / LABELS
        if isinstance(self.target, Labels):
            if not path.exists():
                place = train.columns.index(self.label_column)
                found = self.target.learn(one.fields[place] for one in train)
                self._check_count(len(found))
                theirs = self._labels_there()
                same = theirs is not None and sorted(theirs) == sorted(found.names)
                Labels(theirs if theirs and same else found.names).save(path)
            self.recall()

    def recall(self) -> None:
        """Read the labels of the run."""
        if isinstance(self.target, Labels):
            self.target = self.target.load(self.directory / LABELS)

    def counted(self, data: PreparedData) -> list[str]:
        """A line that says how many of each label there are; none of numbers."""
        if not isinstance(self.target, Labels):
            return []
        counts = self.target.counts(data.column(self.label_column))
        if len(counts) > MANY:
            return [f"{len(counts):,} labels: {min(counts):,} to {max(counts):,} of each"]
        pairs = zip(counts, self.labels, strict=True)
        return [f"labels: {', '.join(f'{count:,} × {name}' for count, name in pairs)}"]

    def new_head(self) -> bool:
        """Whether the labels are not those, in order, of the run that weights come from."""
        return self._labels_there() != (self.labels or None)

    def _labels_there(self) -> tuple[str, ...] | None:
        start = self.recipe.model.get("start_from")
        path = Path(str(start)) / LABELS
        return Labels.load(path).names if start is not None and path.exists() else None

    def _check_count(self, count: int) -> None:
        if count < (1 if isinstance(self.target, LabelSets) else 2):
            raise RecipeError(
                f"the training data have {count} label(s), at least 2 are needed",
                where="data.train",
                hint=self.label_hint,
            )


class LabelTask(Labeled, EncoderTask):
    """A task of a text encoder whose answers have names."""

    def notes(self, data: PreparedData) -> list[str]:
        """Lines worth reading about a split."""
        return [*self.counted(data), *super().notes(data)]
