"""The door by which users classify: texts or pairs in, classes or numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regard.data import Tokenizer
from regard.errors import InputError

if TYPE_CHECKING:
    from regard.tasks.classification import Classification

Text = str | tuple[str, str]
"""A text, or a pair of them."""


@dataclass(frozen=True)
class Label:
    """The class of a text.

    Attributes:
        label: the likeliest.
        probability: its own.
        probabilities: of every class.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]

    def __str__(self) -> str:
        return self.label

    @property
    def answer(self) -> str:
        """As data write it."""
        return self.label


@dataclass(frozen=True)
class LabelSet:
    """The classes that hold of a text.

    Attributes:
        labels: those more probable than not.
        probabilities: of every class.
    """

    labels: tuple[str, ...]
    probabilities: Mapping[str, float]

    def __str__(self) -> str:
        return " ".join(self.labels)

    @property
    def answer(self) -> tuple[str, ...]:
        """As data write it."""
        return self.labels


@dataclass(frozen=True)
class Value:
    """The number of a text."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:.4g}"

    @property
    def answer(self) -> str:
        """As data write it."""
        return f"{self.value:.9g}"


Answer = Label | LabelSet | Value


class Classifier:
    """Classifies text.

    Attributes:
        model: the trained module, called as ``model(ids, mask=, segments=)``.
        tokenizer: of its text.
        labels: the classes; none where it answers with a number.
        sides: texts of an input, 1 or 2; None where the run does not say.
        reads: what an input is called.
    """

    reads = "text"

    def __init__(self, model: nn.Module, task: Classification) -> None:
        self.model = model
        self.tokenizer: Tokenizer = task.tokenizer
        self.labels = task.labels
        self.sides = len(task.text_columns) if task.recipe.data.train else None
        self._task = task

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Classifier: {type(self.model).__name__}, {parameters:,} parameters>"

    def classify(self, texts: Text | Sequence[Text]) -> Any:
        """Classify one text (or pair) or many.

        Args:
            texts: a text, or a pair as a tuple of two; or a list of them.

        Returns:
            `Label`, `LabelSet` or `Value`, by what the model was trained for; a list for a list.

        Raises:
            InputError: for what is neither, or for texts where pairs are wanted.
        """
        one = isinstance(texts, str | tuple)
        rows = self._rows(list(texts) if isinstance(texts, Iterable) and not one else [texts])
        found = [self._answer(row) for row in self._task.logits(self.model, rows)] if rows else []
        return found[0] if one else found

    predict = classify

    def look_inputs(self, text: Text, target: str | None = None) -> dict[str, Any]:
        """A text or pair as the model reads it, for `regard.look.look`.

        Args:
            text: what is read.
            target: the class whose loss is watched; None = the answer's.

        Returns:
            ``inputs`` of the model [1, T], ``tokens``, ``labels`` [1] and ``target``.

        Raises:
            InputError: the model answers with no single class, or not with this one.
        """
        answer = self.classify(text)
        if not isinstance(answer, Label):
            raise InputError("pictures need a model that answers with one class")
        wanted = target or answer.label
        if wanted not in self.labels:
            raise InputError(
                f"there is no class {wanted!r}", hint=f"known: {', '.join(self.labels)}"
            )
        task, device = self._task, next(self.model.parameters()).device
        inputs = task.framed(self._rows([text]))
        return {
            "inputs": {name: tensor.to(device) for name, tensor in inputs.items()},
            "tokens": {"encoder": task.tokenizer.tokens(inputs["ids"][0].tolist())},
            "labels": torch.tensor([self.labels.index(wanted)], device=device),
            "target": wanted,
        }

    def _rows(self, texts: Sequence[Any]) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for text in texts:
            row = (text,) if isinstance(text, str) else text
            if not isinstance(row, tuple | list) or not all(isinstance(part, str) for part in row):
                raise InputError(f"a text is wanted, or a pair of texts, not {text!r}")
            rows.append(tuple(row))
        for row in rows:
            if len(row) not in (1, 2) or len(row) != (self.sides or len(rows[0])):
                wanted = "pairs of texts are" if (self.sides or len(rows[0])) == 2 else "a text is"
                raise InputError(
                    f"{wanted} wanted, not {row if len(row) > 1 else row[0]!r}",
                    hint="a pair is a tuple: (text, other text)",
                )
        return rows

    def _answer(self, logits: Tensor) -> Answer:
        if not self.labels:
            return Value(float(logits[0]))
        several = self._task.several
        p = logits.sigmoid() if several else logits.softmax(dim=0)
        probabilities = dict(zip(self.labels, p.tolist(), strict=True))
        if several:
            held = tuple(name for name, value in probabilities.items() if value > 0.5)
            return LabelSet(held, probabilities)
        best = self.labels[int(p.argmax())]
        return Label(best, probabilities[best], probabilities)
