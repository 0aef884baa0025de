"""How well boxes are found: COCO's average precision, matched by its own code (pycocotools).

Shapes: boxes as left, top, right, bottom in pixels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from regard.errors import missing_extra
from regard.metrics.resampling import Measure, compared, interval
from regard.metrics.score import Comparison, Score, check_sizes

Ints = npt.NDArray[np.int64]
Marked = tuple[Sequence[float], int, float]
"""A box with its class, and its score; of what is right, 1 where it is a crowd, else 0."""

KINDS = {"ap": "AP", "ap50": "AP50"}

BOUNDS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which a box is found."""

RECALLS = np.linspace(0.0, 1.0, 101)


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
        signature = f"100 × COCO's, overlap {overlap}, 100 boxes a picture|{_version()}"
        value = measure(np.arange(count))
        return Score(KINDS[kind], value, signature, interval(measure, count, samples))

    def measure(self, kind: str) -> Measure:
        """The score of some of the pictures, by their numbers.

        A picture that is drawn twice counts twice: every count is a sum over pictures.
        """
        bounds = slice(None) if kind == "ap" else slice(1)

        def over(rows: Ints) -> float:
            times = np.bincount(rows, minlength=len(self.right))
            made = [one.precision(times, bounds) for one in self._classes]
            known = [one for one in made if one is not None]
            return 100 * float(np.mean(known)) if known else 0.0

        return over

    @cached_property
    def _classes(self) -> list[_Class]:
        cells, count = self.evaluated().evalImgs, len(self.right)
        return [_Class.of(cells[start : start + count]) for start in range(0, len(cells), count)]

    def evaluated(self) -> Any:
        """The library's evaluation: its cells say what was matched, by class, then by picture."""
        coco, evaluation = _library()
        classes = sorted({box[1] for row in (*self.right, *self.found) for box in row}) or [0]
        truth, made = coco(), coco()
        truth.dataset = {
            "images": [{"id": number} for number in range(len(self.right))],
            "categories": [{"id": one} for one in classes],
            "annotations": _entries(self.right, "iscrowd"),
        }
        made.dataset = {**truth.dataset, "annotations": _entries(self.found, "score")}
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            made.createIndex()
            held = evaluation(truth, made, "bbox")
            held.params.areaRng, held.params.areaRngLbl = [[0, 1e10]], ["all"]
            held.evaluate()
        return held


@dataclass(frozen=True)
class _Class:
    """Boxes of one class that were found, in all pictures, the likeliest first.

    Attributes:
        owners: picture of each [D].
        right, wrong: whether each is so at each bound of the overlap [bounds, D]; neither, where it
            lies in a crowd.
        wanted: boxes of each picture that are to be found.
    """

    owners: Ints
    right: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    wanted: Ints

    @classmethod
    def of(cls, cells: Sequence[Any]) -> Self:
        """From the library's cells, one a picture; None where there is nothing."""
        held = [(number, cell) for number, cell in enumerate(cells) if cell is not None]
        wanted = np.zeros(len(cells), dtype=np.int64)
        for number, cell in held:
            wanted[number] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
        likely = np.array([score for _, cell in held for score in cell["dtScores"]])
        order = np.argsort(-likely, kind="stable")
        owners = np.array([n for n, cell in held for _ in cell["dtScores"]], dtype=np.int64)
        pairs = [(cell["dtMatches"] > 0, cell["dtIgnore"].astype(bool)) for _, cell in held]
        empty = np.zeros((len(BOUNDS), 0), dtype=bool)
        matched, ignored = (
            np.concatenate([empty, *(pair[n] for pair in pairs)], axis=1)[:, order] for n in (0, 1)
        )
        return cls(owners[order], matched & ~ignored, ~matched & ~ignored, wanted)

    def precision(self, times: Ints, bounds: slice) -> float | None:
        """Mean precision over recalls of 0, 0.01 … 1; None where nothing is to be found.

        Args:
            times: how often each picture counts.
            bounds: of the overlap, those that count.
        """
        wanted = int((self.wanted * times).sum())
        if not wanted:
            return None
        weights, made = times[self.owners], list[float]()
        for right, wrong in zip(self.right[bounds], self.wrong[bounds], strict=True):
            hits, misses = np.cumsum(right * weights), np.cumsum(wrong * weights)
            shares = hits / np.maximum(hits + misses, 1)
            best = np.maximum.accumulate(shares[::-1])[::-1]  # at this recall or a higher one
            places = np.searchsorted(hits / wanted, RECALLS, side="left")
            made.append(float(np.append(best, 0.0)[np.minimum(places, len(best))].mean()))
        return float(np.mean(made))


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
