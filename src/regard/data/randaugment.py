"""RandAugment (Cubuk et al., 2019): each picture is changed by a few operations drawn at random.

Shapes: pictures uint8 [N, C, H, W], strengths and signs [N].

The fourteen operations of the paper's table, in torchvision's ranges, over a batch at once; what
comes in from outside a picture is grey.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard.data.draws import Draws

Pixels = npt.NDArray[np.uint8]
Strengths = npt.NDArray[np.float64]
Operation = Callable[[Pixels, Strengths], Pixels]

LEVELS = 30
"""Magnitudes run from 0 to this."""

FILL = 128
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class RandAugment:
    """Its two settings.

    Attributes:
        layers: operations of each picture, N in the paper.
        magnitude: their strength, M in the paper, 0 to `LEVELS`.
    """

    layers: int
    magnitude: float

    def __call__(self, pictures: Pixels, draws: Draws) -> Pixels:
        """[B, C, H, W] → the same shape."""
        made = pictures.copy()
        strength = self.magnitude / LEVELS
        for _ in range(self.layers):
            chosen = draws.below(len(OPERATIONS))
            signs = np.where(draws.one() < 0.5, -1.0, 1.0)
            for number, operation in enumerate(OPERATIONS):
                rows = np.flatnonzero(chosen == number)
                if len(rows):
                    made[rows] = operation(made[rows], strength * signs[rows])
        return made


def identity(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Nothing is changed."""
    return pictures


def moved(
    pictures: Pixels, matrix: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]
) -> Pixels:
    """Each pixel from where a matrix [N, 2, 2] and a shift [N, 2] (y, x) about the middle say."""
    count, _, height, width = pictures.shape
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    places = np.indices((height, width)).reshape(2, -1).T - middle  # [H W, 2]
    found = places @ matrix.transpose(0, 2, 1) + shift[:, None] + middle  # [N, H W, 2]
    y, x = np.rint(found).astype(np.int64).transpose(2, 0, 1)  # [N, H W] each
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    flat = pictures.reshape(count, -1, height * width)
    at = np.where(inside, y * width + x, 0)[:, None]
    taken = np.take_along_axis(flat, at, axis=2)
    return np.where(inside[:, None], taken, np.uint8(FILL)).reshape(pictures.shape)


def _matrices(entries: list[list[Strengths | float]], count: int) -> npt.NDArray[np.float64]:
    made = np.empty((count, 2, 2))
    for row in range(2):
        for column in range(2):
            made[:, row, column] = entries[row][column]
    return made


def rotate(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Up to 30 degrees."""
    angles = np.deg2rad(30.0 * strengths)
    cosine, sine = np.cos(angles), np.sin(angles)
    matrix = _matrices([[cosine, sine], [-sine, cosine]], len(pictures))
    return moved(pictures, matrix, np.zeros((len(pictures), 2)))


def shear_x(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Up to 0.3."""
    matrix = _matrices([[1.0, 0.0], [0.3 * strengths, 1.0]], len(pictures))
    return moved(pictures, matrix, np.zeros((len(pictures), 2)))


def shear_y(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Up to 0.3."""
    matrix = _matrices([[1.0, 0.3 * strengths], [0.0, 1.0]], len(pictures))
    return moved(pictures, matrix, np.zeros((len(pictures), 2)))


def _shifted(pictures: Pixels, strengths: Strengths, axis: int) -> Pixels:
    shift = np.zeros((len(pictures), 2))
    shift[:, axis] = np.rint(150.0 / 331.0 * pictures.shape[2 + axis] * strengths)
    return moved(pictures, _matrices([[1.0, 0.0], [0.0, 1.0]], len(pictures)), shift)


def translate_x(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Up to 150/331 of the width."""
    return _shifted(pictures, strengths, 1)


def translate_y(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Up to 150/331 of the height."""
    return _shifted(pictures, strengths, 0)


def blended(other: npt.NDArray[np.float32], pictures: Pixels, strengths: Strengths) -> Pixels:
    """Away from another picture, or towards it: by up to 0.9."""
    share = (1.0 + 0.9 * strengths).astype(np.float32)[:, None, None, None]
    made = other + share * (pictures.astype(np.float32) - other)
    return (made.clip(0.0, 255.0) + 0.5).astype(np.uint8)


def grey(pictures: Pixels) -> npt.NDArray[np.float32]:
    """[N, 1, H, W]."""
    weights = _GREY if pictures.shape[1] == len(_GREY) else np.ones(1, np.float32)
    made = np.tensordot(pictures.astype(np.float32), weights, axes=([1], [0]))[:, None]
    # Whole numbers, as a picture in grey has them.
    rounded: npt.NDArray[np.float32] = np.floor(made + np.float32(0.5))
    return rounded


def brightness(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Against black."""
    return blended(np.zeros((1, 1, 1, 1), np.float32), pictures, strengths)


def color(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Against the same in grey."""
    return blended(grey(pictures), pictures, strengths)


def contrast(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Against its mean grey."""
    return blended(grey(pictures).mean(axis=(2, 3), keepdims=True), pictures, strengths)


def sharpness(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Against the same, smoothed; the border stays."""
    soft = pictures.astype(np.float32)
    if min(pictures.shape[2:]) > 2:
        views = np.lib.stride_tricks.sliding_window_view(soft, (3, 3), axis=(2, 3))
        smooth = (views.sum(axis=(4, 5)) + 4.0 * soft[:, :, 1:-1, 1:-1]) / 13.0
        soft = soft.copy()
        soft[:, :, 1:-1, 1:-1] = smooth
    return blended(soft, pictures, strengths)


def posterize(pictures: Pixels, strengths: Strengths) -> Pixels:
    """8 bits down to 4."""
    bits = 8 - np.rint(4.0 * np.abs(strengths)).astype(np.uint8)
    masks = (0xFF << (8 - bits)).astype(np.uint8)
    return pictures & masks[:, None, None, None]


def solarize(pictures: Pixels, strengths: Strengths) -> Pixels:
    """What is brighter than a threshold is turned around."""
    limits = (256.0 * (1.0 - np.abs(strengths)))[:, None, None, None]
    return np.where(pictures >= limits, 255 - pictures, pictures)


def autocontrast(pictures: Pixels, strengths: Strengths) -> Pixels:
    """The darkest value of a channel becomes 0, the brightest 255."""
    low = pictures.min(axis=(2, 3), keepdims=True).astype(np.float32)
    span = pictures.max(axis=(2, 3), keepdims=True) - low
    made = (pictures - low) * (255.0 / np.maximum(span, 1.0))
    return np.where(span > 0, made + 0.5, pictures).clip(0, 255).astype(np.uint8)


def equalize(pictures: Pixels, strengths: Strengths) -> Pixels:
    """Every value of a channel about as often as any other."""
    count, channels, height, width = pictures.shape
    rows = pictures.reshape(count * channels, height * width).astype(np.int64)
    offsets = np.arange(len(rows))[:, None] * 256
    histogram = np.bincount((rows + offsets).ravel(), minlength=256 * len(rows)).reshape(-1, 256)
    brightest = histogram.shape[1] - 1 - (histogram[:, ::-1] > 0).argmax(axis=1)
    last = np.take_along_axis(histogram, brightest[:, None], axis=1)
    step = (histogram.sum(axis=1, keepdims=True) - last) // 255  # [N C, 1]
    before = np.cumsum(histogram, axis=1) - histogram
    table = (before + step // 2) // np.maximum(step, 1)
    table = np.where(step > 0, table, np.arange(256)).clip(0, 255)
    return np.take_along_axis(table, rows, axis=1).astype(np.uint8).reshape(pictures.shape)


OPERATIONS: tuple[Operation, ...] = (
    identity,
    autocontrast,
    equalize,
    rotate,
    solarize,
    color,
    posterize,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)
