"""The door by which users find objects in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from regard.errors import InputError

if TYPE_CHECKING:
    from regard.tasks.object_detection import ObjectDetection
    from regard.tasks.stored import Picture

THRESHOLD = 0.5


@dataclass(frozen=True)
class Box:
    """An object that was found.

    Attributes:
        label: of its class.
        probability: that the model gives it.
        left, top, right, bottom: its edges, in pixels of the picture.
    """

    label: str
    probability: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def __str__(self) -> str:
        edges = " ".join(f"{x:.0f}" for x in self.edges)
        return f"{self.label} {self.probability:.2f} {edges}"


@dataclass(frozen=True)
class Detection:
    """What was found in a picture.

    Attributes:
        boxes: the likeliest first.
        size: width and height of the picture, in pixels.
    """

    boxes: tuple[Box, ...]
    size: tuple[int, int]

    def __str__(self) -> str:
        return "; ".join(map(str, self.boxes)) or "nothing"


class Detector:
    """Finds objects.

    Attributes:
        model: the trained module, called as ``model(pixels)``.
        labels: the classes.
        reads: what an input is called.
    """

    reads = "picture"

    def __init__(self, model: nn.Module, task: ObjectDetection) -> None:
        self.model = model
        self.labels = task.labels
        self._task = task

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Detector: {type(self.model).__name__}, {parameters:,} parameters>"

    def detect(self, pictures: Picture | Sequence[Picture], *, threshold: float = THRESHOLD) -> Any:
        """Find the objects in one picture or many.

        Args:
            pictures: a path, a file's bytes, a Pillow picture, or an array [H, W] or [H, W, C] of
                uint8; or a list of them.
            threshold: boxes below this probability are left out.

        Returns:
            `Detection`; a list for a list.

        Raises:
            DataError: a picture is broken.
            InputError: a file is not there, or it is no picture at all; the threshold is no number.
        """
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise InputError(f"threshold is a number from 0 to 1, not {threshold!r}")
        many = isinstance(pictures, list | tuple)
        rows = list(pictures) if many else [pictures]
        found = [
            Detection(tuple(box for box in boxes if box.probability >= threshold), size)
            for boxes, size in self._task.boxes(self.model, rows)
        ]
        return found if many else found[0]

    predict = detect

    def look_inputs(self, picture: Picture, target: str | None = None) -> dict[str, Any]:
        """A picture as the model reads it, for `regard.look.look`.

        Raises:
            InputError: a target is given.
        """
        if target is not None:
            raise InputError("boxes are no single answer: leave the target out")
        return self._task.look_inputs(picture, next(self.model.parameters()).device)


def boxes_from(
    logits: torch.Tensor, edges: torch.Tensor, labels: Sequence[str], size: tuple[int, int]
) -> list[Box]:
    """The answer of each detection token of a picture, the likeliest first.

    Args:
        logits: [N, classes + 1].
        edges: left, top, right, bottom [N, 4], in shares of the picture.
        labels: the classes.
        size: width and height of the picture.
    """
    likeliest, classes = logits.softmax(-1)[:, :-1].max(-1)  # [N], without "no object"
    sides = torch.tensor([*size, *size], dtype=edges.dtype)
    pixels = (edges.clamp(0, 1) * sides).tolist()
    rows = zip(likeliest.tolist(), classes.tolist(), pixels, strict=True)
    found = [Box(labels[number], probability, *box) for probability, number, box in rows]
    return sorted(found, key=lambda box: -box.probability)
