"""Boxes of prepared data, and pictures with them as batches.

Shapes: B pictures, N detection tokens; boxes [..., 4], in shares of the picture's sides as left,
top, right, bottom, or, as models have them, as center and size.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data.augment import Augmentation
from regard.data.codecs import Labels, column_rows
from regard.data.draws import Draws
from regard.data.framed import IGNORED
from regard.data.picture_batches import PictureBatches, pixels_of
from regard.data.pictures import Form, turned
from regard.data.prepared import NAME, Column, PreparedData
from regard.data.readers.boxes import boxes_of
from regard.data.readers.pictures import LABEL, PICTURE, PictureSource, Pixels
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


class Carried(PictureSource):
    """A source's pictures with boxes as they lie in what is decoded, which EXIF may have turned.

    An annotation's size says of which picture it speaks: of the turned one, whose boxes stay, or of
    that in the file, whose boxes are turned like it. Where both have one size, it is the turned.

    Raises:
        DataError: while reading: a picture has neither size.
    """

    def __init__(self, source: PictureSource) -> None:
        super().__init__(source.path)
        self.source = source
        self.files, self.left_out = source.files, source.left_out
        self.identity = {**source.identity, "boxes": "of the picture as decoded"}

    def named(self) -> Iterator[tuple[str, str]]:
        """As the source has them."""
        rows = self.source.named()
        while few := list(itertools.islice(rows, self.chunk)):  # a packed archive reads onward
            yield from ((name, self._line(name, line)) for name, line in few)

    def _line(self, name: str, line: str) -> str:
        try:
            held = self.source.read(name)
            assert isinstance(held, bytes)
            size, turn = turned(held)
        except DataError:  # who decodes it says so
            return line
        said, boxes = boxes_of(line)
        if said == size:
            return line
        if turn == 1 or said != size[::-1]:
            raise DataError(
                f"the annotation is of {said[0]:g} × {said[1]:g} pixels, and the picture has "
                f"{size[0]} × {size[1]}: {self.origin(name)}",
                where=self.labeled_at(name),
                hint="mend the annotation's size and boxes, or give the picture that it is of",
            )
        moved = [[*carried(box[:4], said, turn), *box[4:]] for box in boxes]
        return json.dumps({"size": size, "boxes": moved}, ensure_ascii=False)

    def read(self, name: str) -> bytes | Pixels:
        """As the source does."""
        return self.source.read(name)

    def origin(self, name: str) -> str:
        """As the source says."""
        return self.source.origin(name)

    def labeled_at(self, name: str) -> str:
        """In the annotation."""
        return self.source.labeled_at(name)


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
        pairs = zip(column_rows(data.column(PICTURE), rows), draws(4), strict=True)
        made = [self._part(self._stored(row), numbers) for row, numbers in pairs]
        kept = [cropped(one, part) for one, (_, part) in zip(found, made, strict=True)]
        return np.stack([pixels for pixels, _ in made]), kept

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


def carried(
    edges: tuple[float, ...], size: tuple[float, float], turn: int
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a box, in pixels, once its picture is turned.

    Args:
        edges: in the picture as its file has it.
        size: of that, width and height.
        turn: 5 to 8; see `regard.data.pictures.turned`.
    """
    (left, top, right, bottom), (width, height) = edges, size
    x = (height - bottom, height - top) if turn in (6, 7) else (top, bottom)
    y = (width - right, width - left) if turn in (7, 8) else (left, right)
    return x[0], y[0], x[1], y[1]


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
