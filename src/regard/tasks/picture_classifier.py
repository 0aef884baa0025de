"""The door by which users classify pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from regard.errors import InputError
from regard.tasks.classifier import Label

if TYPE_CHECKING:
    from regard.tasks.image_classification import ImageClassification
    from regard.tasks.stored import Picture


class PictureClassifier:
    """Classifies pictures.

    Attributes:
        model: the trained module, called as ``model(pixels)``.
        labels: the classes.
        reads: what an input is called.
    """

    reads = "picture"

    def __init__(self, model: nn.Module, task: ImageClassification) -> None:
        self.model = model
        self.labels = task.labels
        self._task = task

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<PictureClassifier: {type(self.model).__name__}, {parameters:,} parameters>"

    def classify(self, pictures: Picture | Sequence[Picture]) -> Any:
        """Classify one picture or many.

        Args:
            pictures: a path, a file's bytes, a Pillow picture, or an array [H, W] or [H, W, C] of
                uint8; or a list of them.

        Returns:
            `regard.tasks.classifier.Label`; a list for a list.

        Raises:
            DataError: a picture is broken.
            InputError: a file is not there, or it is no picture at all.
        """
        many = isinstance(pictures, list | tuple)
        rows = list(pictures) if many else [pictures]
        found = [self._label(row) for row in self._task.logits(self.model, rows)] if rows else []
        return found if many else found[0]

    predict = classify

    def _label(self, logits: torch.Tensor) -> Label:
        probabilities = dict(zip(self.labels, logits.softmax(dim=0).tolist(), strict=True))
        best = self.labels[int(logits.argmax())]
        return Label(best, probabilities[best], probabilities)

    def look_inputs(self, picture: Picture, target: str | None = None) -> dict[str, Any]:
        """A picture as the model reads it, for `regard.look.look`.

        Args:
            picture: what is read.
            target: the class whose loss is watched; None = the answer's.

        Returns:
            what `regard.tasks.pictures.PictureTask.look_inputs` does, ``labels`` [1] and
            ``target``.

        Raises:
            InputError: there is no such class.
        """
        wanted = target or self.classify(picture).label
        if wanted not in self.labels:
            raise InputError(
                f"there is no class {wanted!r}", hint=f"known: {', '.join(self.labels)}"
            )
        device = next(self.model.parameters()).device
        labels = torch.tensor([self.labels.index(wanted)], device=device)
        return {**self._task.look_inputs(picture, device), "labels": labels, "target": wanted}
