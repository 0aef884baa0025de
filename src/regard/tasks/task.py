"""The face of a task: what `workflow` and `load` ask of each of them.

A task object belongs to one recipe. It knows what an example is: it reads and prepares the data,
says what the model must fit, gives batches and the objective, scores a model, and makes the door
that users predict by. It knows no family by name and no training loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn

from regard.metrics import Comparison, Score
from regard.recipe import Recipe

Report = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """One example with what the model made of it, to be shown."""

    source: str
    target: str
    output: str


@dataclass(frozen=True)
class Examples:
    """Inputs with what is right, as a reader has them.

    Attributes:
        sources, references: texts, or what else the task's inputs and answers are.
        origins: where each stands, ``file:line``.
        apart: whether each is by itself, not a piece of one long text.
        left_out: how many inputs could not be read and are not among them.
    """

    sources: Sequence[Any]
    references: Sequence[Any]
    origins: Sequence[str]
    apart: bool = True
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.sources)

    def first(self, count: int) -> Examples:
        """The first few."""
        sources, references = self.sources[:count], self.references[:count]
        return Examples(sources, references, self.origins[:count], self.apart)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on one data set.

    Attributes:
        scores: by metric; a `Score` says its value and signature.
        samples: a few examples.
        outputs: what the model made of each example, where it is compared with another's.
        seconds: that the model took.
    """

    scores: Mapping[str, Score]
    samples: Sequence[Sample] = ()
    outputs: Sequence[Any] = ()
    seconds: float = 0.0


class Batches(Protocol):
    """What training, checking and validating ask of a split."""

    def num_micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has."""
        ...

    def micro_batch(self, epoch: int, k: int) -> dict[str, Any]:
        """Micro-batch k of an epoch, a pure function of the two."""
        ...

    def tokens(self, epoch: int = 0) -> Any:
        """Real tokens of each side in each micro-batch [K, sides]."""
        ...

    def worst(self, epoch: int = 0) -> int:
        """The micro-batch that takes most memory."""
        ...

    def describe(self, batch: dict[str, Any]) -> list[str]:
        """Where the examples of a batch come from: ``file:line`` each."""
        ...

    def close(self) -> None:
        """No more batches are asked for."""
        ...


@dataclass(frozen=True)
class Splits:
    """Batches to train on and to validate with.

    Attributes:
        notes: lines worth reading, such as how many examples were left out.
        digests: of each split's content; a run that goes on must have the same.
    """

    train: Batches
    valid: Batches | None
    notes: Sequence[str] = field(default_factory=tuple)
    digests: Mapping[str, str] = field(default_factory=dict)


class Task(Protocol):
    """One task under one recipe.

    Attributes:
        name: the registry's.
        family: the usual one.
        metrics: names of the scores that `evaluate` gives.
        data_keys: keys of a split that only this task reads, and what each says.
        verb: of the command line that uses a trained model.
        batches: of which form, or forms; objectives say by ``reads`` which they take.
        strategy: how outputs are searched, where the recipe does not say it.
        stand_in: settings of the model that the data decide, as long as there are none.
        uses: which of the recipe's keys that are not every task's it reads: ``augmentation``,
            ``mixture``, ``data.roles``, ``data.answers``, ``data.stride``, ``data.prefix``,
            ``data.broken``.
        inputs: what users call those of the model.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    verb: ClassVar[str]
    batches: ClassVar[str | tuple[str, ...]] = "pairs"
    data_keys: ClassVar[Mapping[str, str]] = {}
    strategy: ClassVar[str] = "beam"
    stand_in: ClassVar[Mapping[str, Any]] = {"vocab_size": 8}
    uses: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[str] = "texts"

    def __init__(self, recipe: Recipe) -> None: ...

    @classmethod
    def under(cls, recipe: Recipe) -> Task:
        """The task object of a recipe, whose objective may want another."""
        return cls(recipe)

    def prepare(self, run: Path, report: Report) -> Splits:
        """Train or read the tokenizer (kept in the run), prepare the data, give the batches."""
        ...

    def open(self, run: Path) -> None:
        """Read from the run what prediction needs."""
        ...

    def model_settings(self) -> dict[str, Any]:
        """What the data decide about the model, such as ``vocab_size``."""
        ...

    def new_head(self) -> bool:
        """Whether a head of the run that weights come from would answer something else."""
        return False

    def said(self) -> dict[str, Any]:
        """Settings, by dotted key, that the data tell and a run's recipe shall say."""
        return {}

    def objective(self) -> Any:
        """The loss."""
        ...

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """What a split of the recipe holds, or data in its words, as a reader has it."""
        ...

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Predict and score.

        Args:
            model: in any mode.
            examples: of `read`.
            options: of decoding, where the task decodes.
            samples: how many examples to show.
            resamples: above 0, 95 % intervals by so many of them.
        """
        ...

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """Whether a run is better than another on the same examples, by a paired test."""
        ...

    def check_inputs(self, count: int) -> str:
        """Whether inputs of the training data are read as they are: how many of so many.

        Texts have to come back from the tokenizer as they went in.
        """
        ...

    def show(self, model: nn.Module, count: int) -> Sequence[Sample]:
        """A few validation examples with what the model makes of them, cheaply."""
        ...

    def predictor(self, model: nn.Module) -> Any:
        """The door by which users predict."""
        ...
