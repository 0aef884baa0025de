"""Boxes of prepared data, and pictures with them as batches.

Shapes: B pictures, N detection tokens; boxes [..., 4], in shares of the picture's sides as left,
top, right, bottom, or, as models have them, as center and size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data.augment import Augmentation
from regard.data.codecs import Labels, column_rows
from regard.data.draws import Draws
from regard.data.framed import IGNORED
from regard.data.picture_batches import PictureBatches, pixels_of
from regard.data.pictures import Form, decode
from regard.data.prepared import NAME, Column, PreparedData
from regard.data.readers.boxes import boxes_of
from regard.data.readers.pictures import LABEL, PICTURE
from regard.errors import DataError
from regard.nn.boxes import centered

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Found = tuple[Ints, Floats]
"""Classes [K] and boxes [K, 4] of a picture."""

LEAST_SEEN = 0.25
"""Of a box's area, within a random part of the picture: below that it is left out."""


class Boxes(Labels):
    """A codec of a source's lines: how many boxes, then each one's class and four numbers' bits."""

    vocab_size = 1 << 32

    @staticmethod
    def split(text: str) -> list[str]:
        """The names in a line."""
        return [box[4] for box in boxes_of(text)[1] if not box[5]]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Without crowds.

        Raises:
            CodecError: for a name that is not known.
        """
        made = []
        for number, text in enumerate(texts):
            (width, height), boxes = boxes_of(text)
            kept = [box for box in boxes if not box[5]]
            sides = (width, height, width, height)
            row = [len(kept)]
            for box in kept:
                shares = np.array([x / y for x, y in zip(box[:4], sides, strict=True)], np.float32)
                row += [self._id(box[4], number), *shares.view(np.uint32).tolist()]
            made.append(row)
        return made

    def counts(self, column: Column) -> list[int]:
        """How many of each there are in prepared data."""
        rows = column_rows(column, np.arange(len(column.offsets) - 1))
        classes = np.concatenate([self.found(row)[0] for row in rows])
        return [int(n) for n in np.bincount(classes, minlength=len(self))]

    @staticmethod
    def found(row: npt.NDArray[np.unsignedinteger]) -> Found:
        """Classes and boxes of prepared ids."""
        held = np.asarray(row[1:], np.uint32).reshape(-1, 5)
        return held[:, 0].astype(np.int64), held[:, 1:].copy().view(np.float32)


class BoxBatches(PictureBatches):
    """Pictures with their boxes; to train on, flipped, and parts of them.

    Args:
        form, augmentation, tokens, target: see `PictureBatches`.
        detections: N, boxes of a picture at most.
    """

    def __init__(
        self,
        form: Form,
        augmentation: Augmentation,
        tokens: int,
        target: Boxes,
        detections: int,
    ) -> None:
        super().__init__(form, augmentation, tokens, target)
        self.detections = detections

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of each picture [N, 1].

        Raises:
            DataError: a picture has more boxes than there are detection tokens.
        """
        column = data.column(LABEL)
        counts = np.asarray(column.ids[column.offsets[:-1]])
        if len(counts) and counts.max() > self.detections:
            worst = np.array([int(counts.argmax())])
            (name,) = column_rows(data.column(NAME), worst)
            raise DataError(
                f"a picture has {counts.max()} boxes, and model.detections is {self.detections}",
                where=bytes(name.astype(np.uint8)).decode("utf-8", "replace"),
                hint="let there be more detection tokens than boxes",
            )
        return super().lengths(data)

    def drawn(self, data: PreparedData, rows: Ints, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """The same, changed as the recipe says; see `PictureBatches.drawn`."""
        chosen, draws = self.augmentation, Draws(seed, epoch, rows)
        found = [Boxes.found(row) for row in column_rows(data.column(LABEL), rows)]
        if chosen.smallest < 1.0:
            pixels, found = self._cropped(data, rows, draws, found)
        else:
            pixels = pixels_of(data, rows, self.form)
        for axis, (edge, probability) in {3: (0, chosen.flip), 2: (1, chosen.upend)}.items():
            turned = draws.one() < probability
            pixels = np.where(turned[:, None, None, None], np.flip(pixels, axis), pixels)
            pairs = zip(found, turned, strict=True)
            found = [mirrored(one, edge) if turn else one for one, turn in pairs]
        return self._together(rows, chosen.normalized(pixels), found)

    def _batch(self, data: PreparedData, rows: Ints, numbers: Floats) -> dict[str, Tensor]:
        found = [Boxes.found(row) for row in column_rows(data.column(LABEL), rows)]
        return self._together(rows, numbers, found)

    def _cropped(
        self, data: PreparedData, rows: Ints, draws: Draws, found: Sequence[Found]
    ) -> tuple[npt.NDArray[np.uint8], list[Found]]:
        """Random parts of the pictures, and what of the boxes lies in them."""
        column = column_rows(data.column(PICTURE), rows)
        held = [decode(self._stored(row), self.form.channels, known=True) for row in column]
        sizes = np.array([picture.size[::-1] for picture in held])
        parts = self.augmentation.parts(draws, sizes)  # [B, 4]: y, x, h, w
        pixels = np.stack(
            [
                self.form.pixels(picture, (x, y, x + w, y + h))
                for picture, (y, x, h, w) in zip(held, parts.tolist(), strict=True)
            ]
        )
        shares = parts / np.tile(sizes, 2)
        return pixels, [cropped(one, part) for one, part in zip(found, shares, strict=True)]

    def _stored(self, row: npt.NDArray[np.uint8]) -> bytes | npt.NDArray[np.uint8]:
        """A prepared picture as `decode` takes it."""
        if not self.form.small:
            return row.tobytes()
        pixels = row.reshape(self.form.shape).transpose(1, 2, 0)  # [H, W, C]
        return np.ascontiguousarray(pixels[..., 0] if self.form.channels == 1 else pixels)

    def _together(self, rows: Ints, numbers: Floats, found: Sequence[Found]) -> dict[str, Tensor]:
        """``pixels``, ``labels`` [B, N], ``boxes`` [B, N, 4] by center and size, ``example``."""
        labels = torch.full((len(rows), self.detections), IGNORED)  # where nothing is
        boxes = torch.zeros(len(rows), self.detections, 4)
        for row, (classes, edges) in enumerate(found):
            labels[row, : len(classes)] = torch.from_numpy(classes)
            boxes[row, : len(classes)] = centered(torch.from_numpy(edges))
        return {
            "pixels": torch.from_numpy(numbers),
            "labels": labels,
            "boxes": boxes,
            "example": torch.from_numpy(np.array(rows, dtype=np.int64)),
        }


def mirrored(found: Found, edge: int) -> Found:
    """Boxes of a picture whose left and right (edge 0), or top and bottom (1), change places."""
    classes, edges = found
    made = edges.copy()
    made[:, edge], made[:, edge + 2] = 1.0 - edges[:, edge + 2], 1.0 - edges[:, edge]
    return classes, made


def cropped(found: Found, part: npt.NDArray[np.float64]) -> Found:
    """What of the boxes lies in a part (y, x, h, w) of the picture, in shares of that."""
    classes, edges = found
    y, x, height, width = part
    moved = (edges - [x, y, x, y]) / [width, height, width, height]
    inside = moved.clip(0.0, 1.0)

    def areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    kept = areas(inside) >= LEAST_SEEN * areas(moved)
    return classes[kept], inside[kept].astype(np.float32)
