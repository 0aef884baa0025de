"""Pictures of prepared data as batches.

Shapes: B pictures, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data.augment import Augmentation, statistics, stretched
from regard.data.codecs import Target, column_rows
from regard.data.draws import Draws
from regard.data.pictures import Form, decode
from regard.data.prepared import PreparedData
from regard.data.readers.pictures import LABEL, PICTURE

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

SAMPLED = {True: 10_000, False: 500}
"""Pictures that mean and deviation are taken of; large ones have to be decoded."""


class PictureBatches:
    """Pictures with their labels; to train on, changed as a recipe says.

    Args:
        form: of the pictures.
        augmentation: mean and deviation, and what is changed in training.
        tokens: that the model makes of a picture.
        target: the labels.
    """

    def __init__(self, form: Form, augmentation: Augmentation, tokens: int, target: Target) -> None:
        self.form = form
        self.augmentation = augmentation
        self.tokens = tokens
        self.target = target

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of each picture [N, 1]."""
        return np.full((len(data), 1), self.tokens)

    def __call__(self, data: PreparedData, rows: Ints) -> dict[str, Tensor]:
        """``pixels`` [B, C, H, W] float32, ``labels``, ``tokens`` and ``example`` [B]."""
        numbers = self.augmentation.normalized(pixels_of(data, rows, self.form))
        return self._batch(data, rows, numbers)

    def drawn(self, data: PreparedData, rows: Ints, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """The same, changed; where pictures are mixed with ``others`` (labels) and ``share`` [B].

        Args:
            data, rows: the pictures.
            seed, epoch: with a picture's number all that a change follows from; which pictures are
                mixed follows from the batch.
        """
        chosen = self.augmentation
        draws = Draws(seed, epoch, rows)
        pixels = chosen.changed(self._parts(data, rows, draws), draws)
        numbers = chosen.erased(chosen.normalized(pixels), draws)
        numbers, share = chosen.mixed(numbers, seed, epoch, int(rows[0]))
        made = self._batch(data, rows, numbers)
        if share < 1.0:
            made["others"] = made["labels"].flip(0)
            made["share"] = torch.full((len(rows),), share)
        return made

    def _parts(self, data: PreparedData, rows: Ints, draws: Draws) -> Pixels:
        """The pictures, or random parts of them."""
        if self.augmentation.smallest >= 1.0:
            return pixels_of(data, rows, self.form)
        if self.form.small:
            sizes = np.broadcast_to([self.form.height, self.form.width], (len(rows), 2))
            return stretched(
                pixels_of(data, rows, self.form), self.augmentation.parts(draws(4), sizes)
            )
        pairs = zip(column_rows(data.column(PICTURE), rows), draws(4), strict=True)
        return np.stack([self._part(row.tobytes(), numbers)[0] for row, numbers in pairs])

    def _part(
        self, held: bytes | Pixels, numbers: npt.NDArray[np.float64]
    ) -> tuple[Pixels, npt.NDArray[np.float64]]:
        """A random part of a picture [C, H, W], and where it lies (y, x, h, w), in shares."""
        picture = decode(held, self.form.channels, known=True)
        size = np.array(picture.size[::-1])
        (part,) = self.augmentation.parts(numbers[None], size[None])
        y, x, height, width = part.tolist()
        return self.form.pixels(picture, (x, y, x + width, y + height)), part / np.tile(size, 2)

    def _batch(
        self, data: PreparedData, rows: Ints, numbers: npt.NDArray[np.float32]
    ) -> dict[str, Tensor]:
        return {
            "pixels": torch.from_numpy(numbers),
            "labels": self.target.tensor(column_rows(data.column(LABEL), rows)),
            "tokens": torch.full((len(rows),), self.tokens),
            "example": torch.from_numpy(np.array(rows, dtype=np.int64)),
        }


def pixels_of(data: PreparedData, rows: Ints, form: Form) -> Pixels:
    """Prepared pictures whole [B, C, H, W]."""
    column = data.column(PICTURE)
    if form.small:
        found: Pixels = column.ids.reshape(-1, *form.shape)[rows]
        return found
    return np.stack(
        [
            form.pixels(decode(row.tobytes(), form.channels, known=True))
            for row in column_rows(column, rows)
        ]
    )


def statistics_of(data: PreparedData, form: Form) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the data's channels, of pixels in 0 to 1."""
    return statistics(_spread(data, form), form.channels)


def _spread(data: PreparedData, form: Form) -> Iterator[Pixels]:
    """Some pictures from everywhere in the data."""
    count = min(len(data), SAMPLED[form.small])
    rows = np.linspace(0, len(data) - 1, count).astype(np.int64)
    for start in range(0, count, 256):
        yield pixels_of(data, rows[start : start + 256], form)
