"""How well boxes are found: COCO's average precision, by its own code (pycocotools).

Shapes: boxes as left, top, right, bottom in pixels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.errors import missing_extra
from regard.metrics.resampling import Measure, compared, interval
from regard.metrics.score import Comparison, Score, check_sizes

Ints = npt.NDArray[np.int64]
Marked = tuple[Sequence[float], int, float]
"""A box with its class, and its score; of what is right, 1 where it is a crowd, else 0."""

KINDS = {"ap": "AP", "ap50": "AP50"}


@dataclass(frozen=True)
class BoxScores:
    """Found boxes of some pictures, held against the right ones.

    Attributes:
        right, found: boxes of each picture.
    """

    right: Sequence[Sequence[Marked]]
    found: Sequence[Sequence[Marked]]

    def score(self, kind: str, samples: int = 0) -> Score:
        """``ap``, the mean over overlaps of 0.50, 0.55 … 0.95, or ``ap50``; in per cent.

        Raises:
            DataError: unequal counts, or nothing to score.
            RegardError: pycocotools is not installed.
        """
        check_sizes(self.found, self.right)
        measure, count = self.measure(kind), len(self.right)
        overlap = "0.50:0.95" if kind == "ap" else "0.50"
        signature = f"COCO, overlap {overlap}, 100 boxes a picture|{_version()}"
        value = measure(np.arange(count))
        return Score(KINDS[kind], value, signature, interval(measure, count, samples))

    def measure(self, kind: str) -> Measure:
        """The score of some of the pictures, by their numbers."""
        held, cells = self._evaluated
        count = len(self.right)

        def over(rows: Ints) -> float:
            held.params.imgIds = held._paramsEval.imgIds = list(range(len(rows)))
            held.evalImgs = [
                cells[start + row] for start in range(0, len(cells), count) for row in rows
            ]
            with contextlib.redirect_stdout(io.StringIO()):
                held.accumulate()
            precision = held.eval["precision"][..., -1]  # [overlaps, recalls, classes, areas]
            precision = precision if kind == "ap" else precision[:1]
            known = precision[precision > -1]
            return 100 * float(known.mean()) if known.size else 0.0

        return over

    @cached_property
    def _evaluated(self) -> tuple[Any, list[Any]]:
        """The library's evaluation, and what it found: by class, then by picture."""
        coco, evaluation = _library()
        classes = sorted({box[1] for row in (*self.right, *self.found) for box in row}) or [0]
        truth = coco()
        truth.dataset = {
            "images": [{"id": number} for number in range(len(self.right))],
            "categories": [{"id": one} for one in classes],
            "annotations": _entries(self.right, "iscrowd"),
        }
        made = coco()
        made.dataset = {**truth.dataset, "annotations": _entries(self.found, "score")}
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            made.createIndex()
            held = evaluation(truth, made, "bbox")
            held.params.areaRng, held.params.areaRngLbl = [[0, 1e10]], ["all"]
            held.evaluate()
        return held, held.evalImgs


def compare_boxes(ours: BoxScores, theirs: BoxScores) -> list[Comparison]:
    """Each score of two systems on the same pictures, by paired bootstrap resampling."""
    return [
        compared(
            (ours.score(kind), theirs.score(kind)),
            (ours.measure(kind), theirs.measure(kind)),
            len(ours.right),
        )
        for kind in KINDS
    ]


def _entries(rows: Sequence[Sequence[Marked]], last: str) -> list[dict[str, Any]]:
    """Boxes as the library has them, numbered from 1: it takes 0 for none."""
    boxes = ((number, box) for number, row in enumerate(rows) for box in row)
    return [
        {
            "id": place,
            "image_id": number,
            "category_id": kind,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
            last: value,
        }
        for place, (number, ((left, top, right, bottom), kind, value)) in enumerate(boxes, start=1)
    ]


def _library() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise missing_extra("pycocotools", "pictures") from error
    return COCO, COCOeval


def _version() -> str:
    from importlib.metadata import version

    return f"pycocotools {version('pycocotools')}"
