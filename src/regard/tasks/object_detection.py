"""Object detection: a picture in, the boxes of what is to be seen out (Fang et al., 2021, "YOLOS").

Data are Pascal VOC's folders or COCO's JSON; see `regard.data.readers.boxes`.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from regard.data import PreparedData
from regard.data.boxes import BoxBatches, Boxes, Carried
from regard.data.readers.boxes import KEYS, boxes_of, open_boxes
from regard.data.readers.pictures import PictureSource
from regard.errors import RecipeError
from regard.metrics import Comparison
from regard.metrics.detection import KINDS, BoxScores, Marked, compare_boxes
from regard.nn.boxes import corners
from regard.nn.modes import evaluating
from regard.recipe import Recipe
from regard.tasks.detector import Box, Detector, boxes_from
from regard.tasks.pictures import LabeledPictures
from regard.tasks.stored import Picture
from regard.tasks.task import Evaluation, Examples, Sample

CARRIED = ("mean", "std", "fit", "smallest", "flip", "upend")
"""Of the recipe's augmentation, what boxes are carried through."""


class ObjectDetection(LabeledPictures):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "object-detection"
    verb: ClassVar[str] = "detect"
    batches: ClassVar[str] = "boxes"
    metrics: ClassVar[tuple[str, ...]] = tuple(KINDS)
    data_keys: ClassVar[Mapping[str, str]] = KEYS
    stand_in: ClassVar[Mapping[str, Any]] = {"head": {"kind": "boxes", "num_classes": 1}}

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.target: Boxes = Boxes(())

    # Data

    def source(self, data: Mapping[str, Any]) -> PictureSource:
        """The pictures that data in the recipe's words describe, with their boxes."""
        return open_boxes(data)

    def prepared(self, source: PictureSource) -> PreparedData:
        """A source's pictures, with boxes as they lie in them."""
        return super().prepared(Carried(source))

    def examples(
        self, source: PictureSource, count: int | None = None, *, broken: str | None = None
    ) -> Examples:
        """The same as a reader has them."""
        return super().examples(Carried(source), count, broken=broken)

    def collate(self) -> BoxBatches:
        """Pictures with their boxes.

        Raises:
            RecipeError: the recipe asks for a change that boxes are not carried through.
        """
        self._check()
        detections = self._config.detections
        return BoxBatches(self.form, self.augmentation, self.tokens, self.target, detections)

    def _check(self) -> None:
        given = self.recipe.augmentation
        asked = {} if given is None else given.model_dump(exclude_defaults=True)
        strange = [key for key in asked if key not in CARRIED or asked[key] == "crop"]
        if strange:
            raise RecipeError(
                f"boxes are not carried through this change of pictures: {strange[0]}",
                where=self.recipe.place(f"augmentation.{strange[0]}"),
                hint=f'known: {", ".join(CARRIED)}; fit = "stretch"',
            )

    def model_settings(self) -> dict[str, Any]:
        """The head that the labels need."""
        return {"head": {"kind": "boxes", "num_classes": len(self.labels) or 1}}

    def _check_count(self, count: int) -> None:
        if count < 1:
            raise RecipeError("the training data have no boxes", where="data.train")

    # Use

    def predictor(self, model: nn.Module) -> Detector:
        """The door by which users find objects."""
        return Detector(model, self)

    def boxes(
        self, model: nn.Module, pictures: Sequence[Picture]
    ) -> list[tuple[list[Box], tuple[int, int]]]:
        """What each detection token answers, the likeliest first; and each picture's size."""
        device, made = next(model.parameters()).device, list[tuple[list[Box], tuple[int, int]]]()
        for start in range(0, len(pictures), self.at_once):
            held = [self.sized(one) for one in pictures[start : start + self.at_once]]
            with evaluating(model), torch.inference_mode():
                logits, boxes = model(self.normalized([pixels for pixels, _ in held]).to(device))
            edges = corners(boxes.float().cpu())
            made += [
                (boxes_from(row, edge, self.labels, size), size)
                for row, edge, (_, size) in zip(logits.float().cpu(), edges, held, strict=True)
            ]
        return made

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Find and score; ``options`` of decoding mean nothing here."""
        begun = time.perf_counter()
        found = [boxes for boxes, _ in self.boxes(model, examples.sources)]
        seconds = time.perf_counter() - begun
        held = self._scored(examples, found)
        scores = {kind: held.score(kind, resamples) for kind in KINDS}
        return Evaluation(scores, _samples(examples, found, samples), found, seconds)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """By paired bootstrap resampling."""
        made = [self._scored(examples, one.outputs) for one in (ours, theirs)]
        return compare_boxes(*made)

    def _scored(self, examples: Examples, found: Sequence[Sequence[Box]]) -> BoxScores:
        known = {name: number for number, name in enumerate(self.labels)}
        right: list[list[Marked]] = [
            [(box[:4], known[box[4]], box[5]) for box in boxes_of(line)[1] if box[4] in known]
            for line in examples.references
        ]
        answered: list[list[Marked]] = [
            [(box.edges, known.get(box.label, -1), box.probability) for box in row] for row in found
        ]
        return BoxScores(right, answered)

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The first few validation pictures with what is found in them."""
        if not count or self.recipe.data.valid is None:
            return []
        few = self.examples(self.of_split("valid"), count)
        return _samples(few, [boxes for boxes, _ in self.boxes(model, few.sources)], count)


def _samples(examples: Examples, found: Sequence[Sequence[Box]], count: int) -> list[Sample]:
    rows = zip(map(str, examples.sources), examples.references, found, strict=True)
    return [
        Sample(name, _counted(Boxes.split(line)), _counted(_sure(boxes)))
        for name, line, boxes in itertools.islice(rows, count)
    ]


def _sure(boxes: Sequence[Box]) -> list[str]:
    return [box.label for box in boxes if box.probability >= 0.5]


def _counted(labels: Sequence[str]) -> str:
    """Such as ``2 cats, 1 dog``, without the grammar."""
    counted = sorted(Counter(labels).items())
    return ", ".join(f"{count} {label}" for label, count in counted) or "nothing"


TASK = ObjectDetection
