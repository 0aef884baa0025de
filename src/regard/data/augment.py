"""Augmentation: what is changed in training pictures, and how pixels become numbers.

Shapes: B pictures, C channels, H × W pixels; pixels uint8 [B, C, H, W].

All that is random follows from (seed, epoch, example); what pictures of a batch are mixed with is
the batch in reverse order, by draws of its first example.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.data.draws import Draws
from regard.data.pictures import Fit
from regard.data.randaugment import RandAugment

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

RATIOS = (3 / 4, 4 / 3)
"""Of the sides of a random part, width by height, where such a part fits (Szegedy et al., 2015)."""


@dataclass(frozen=True)
class RandAugmentSettings:
    """See `regard.data.randaugment`; no layers, no change."""

    layers: int = 0
    magnitude: float = 9.0


@dataclass(frozen=True)
class Augmentation:
    """All of it, in the recipe's words.

    Attributes:
        mean, std: of each channel, of pixels in 0 to 1; what they become has mean 0, deviation 1.
        fit: how another shape becomes the model's; see `regard.data.pictures.Form`.
        pad: a random window of the picture with so many black pixels around it.
        smallest: a random part of at least this share of the area, stretched to the whole; 1 = all.
        flip: how probably left and right change places.
        upend: how probably top and bottom do.
        randaugment: random operations.
        erase: how probably a random box becomes grey (Zhong et al., 2017).
        mixup: α of the mixture with another picture (Zhang et al., 2018); 0 = none.
        cutmix: α of a box's share that comes from another picture (Yun et al., 2019); 0 = none.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fit: Fit = "stretch"
    pad: int = 0
    smallest: float = 1.0
    flip: float = 0.0
    upend: float = 0.0
    randaugment: RandAugmentSettings = field(default_factory=RandAugmentSettings)
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def parts(
        self, numbers: npt.NDArray[np.float64], sizes: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """Random parts (y, x, h, w) of pictures of these sizes; see `random_parts`."""
        return random_parts(numbers, sizes, self.smallest)

    def changed(self, pixels: Pixels, draws: Draws) -> Pixels:
        """Crop, flip and operations [B, C, H, W]."""
        if self.pad:
            pixels = shifted(pixels, draws, self.pad)
        for axis, probability in ((3, self.flip), (2, self.upend)):
            if probability:
                turned = draws.one() < probability
                pixels = np.where(turned[:, None, None, None], np.flip(pixels, axis), pixels)
        if self.randaugment.layers:
            chosen = RandAugment(self.randaugment.layers, self.randaugment.magnitude)
            pixels = chosen(pixels, draws)
        return pixels

    def normalized(self, pixels: Pixels) -> Floats:
        """[B, C, H, W] of mean 0 and deviation 1."""
        mean, std = (np.array(one, np.float32)[:, None, None] for one in (self.mean, self.std))
        made = pixels.astype(np.float32)
        made *= 1.0 / (255.0 * std)
        made -= mean / std
        return made

    def erased(self, numbers: Floats, draws: Draws) -> Floats:
        """With some boxes of the mean color, in place."""
        if not self.erase:
            return numbers
        height, width = numbers.shape[2:]
        chosen = draws.one() < self.erase
        sizes = np.broadcast_to([height, width], (len(numbers), 2))
        for row, (y, x, h, w) in enumerate(random_parts(draws(4), sizes, 0.02, 0.33).astype(int)):
            if chosen[row]:
                numbers[row, :, y : y + h, x : x + w] = 0.0
        return numbers

    def mixed(self, numbers: Floats, seed: int, epoch: int, first: int) -> tuple[Floats, float]:
        """Each picture with another one, and its own share; 1 where they are not mixed."""
        alphas = [(kind, one) for kind, one in ((0, self.mixup), (1, self.cutmix)) if one]
        if not alphas:
            return numbers, 1.0
        words = np.random.SeedSequence([seed, epoch, first])
        random = np.random.Generator(np.random.Philox(words))
        kind, alpha = alphas[int(random.integers(len(alphas)))]
        share = float(random.beta(alpha, alpha))
        if kind == 0:
            made = share * numbers + (1.0 - share) * numbers[::-1]
            return made.astype(np.float32), share
        height, width = numbers.shape[2:]
        side = float(np.sqrt(1.0 - share))
        y, x = random.random(2)
        top, bottom = _span(y, side, height)
        left, right = _span(x, side, width)
        made = numbers.copy()
        made[:, :, top:bottom, left:right] = numbers[::-1, :, top:bottom, left:right]
        return made, 1.0 - (bottom - top) * (right - left) / (height * width)


def _span(middle: float, side: float, size: int) -> tuple[int, int]:
    half, at = side * size / 2, middle * size
    return max(0, round(at - half)), min(size, round(at + half))


def random_parts(
    numbers: npt.NDArray[np.float64],
    sizes: npt.NDArray[Any],
    least: float,
    most: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Random boxes [B, 4] (y, x, h, w) of this share of the area.

    Of `RATIOS` as far as such a box fits; where none does, the nearest shape that fits.

    Args:
        numbers: of `Draws` [B, 4].
        sizes: [B, 2] (H, W).
        least, most: of the share.
    """
    sizes = sizes.astype(np.float64)
    area = (least + (most - least) * numbers[:, 0]) * sizes.prod(axis=1)
    widest, narrowest = sizes[:, 1] ** 2 / area, area / sizes[:, 0] ** 2
    low, high = (np.log(np.clip(one, narrowest, widest)) for one in RATIOS)
    ratio = np.exp(low + (high - low) * numbers[:, 1])  # width by height
    box = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], axis=1)
    box = np.minimum(box, sizes)  # it fits but for a rounding
    place = numbers[:, 2:] * (sizes - box)
    return np.concatenate([place, box], axis=1)


def shifted(pixels: Pixels, draws: Draws, pad: int) -> Pixels:
    """A random window of each picture with ``pad`` black pixels around it."""
    count, _, height, width = pixels.shape
    wide = np.pad(pixels, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (height, width), axis=(2, 3))
    y, x = draws.below(2 * pad + 1), draws.below(2 * pad + 1)
    found: Pixels = windows[np.arange(count), :, y, x]  # [B, C, H, W]
    return found


def stretched(pixels: Pixels, boxes: npt.NDArray[np.float64]) -> Pixels:
    """A box [B, 4] (y, x, h, w) of each picture, brought to its size by linear interpolation."""
    made = pixels.astype(np.float32)
    for axis, (at, length) in enumerate(((0, 2), (1, 3)), start=2):
        size = pixels.shape[axis]
        steps = (np.arange(size) + 0.5) / size
        places = boxes[:, at, None] + steps * boxes[:, length, None] - 0.5  # [B, size]
        places = places.clip(0, size - 1)
        low = np.floor(places).astype(np.int64)
        share = (places - low).astype(np.float32)
        shape = (len(pixels), 1, size, 1) if axis == 2 else (len(pixels), 1, 1, size)
        ends = (low, np.minimum(low + 1, size - 1))
        below, above = (np.take_along_axis(made, one.reshape(shape), axis) for one in ends)
        made = below + share.reshape(shape) * (above - below)
    return (made + 0.5).astype(np.uint8)


def statistics(batches: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of pixels in 0 to 1, rounded to 4 digits.

    Args:
        batches: of pixels [B, C, H, W].
        channels: of them.
    """
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for pixels in batches:
        wide = pixels.transpose(1, 0, 2, 3).reshape(channels, -1).astype(np.float64) / 255.0
        total += wide.sum(axis=1)
        squares += (wide**2).sum(axis=1)
        count += wide.shape[1]
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0.0))
    kept = [float(round(one, 4)) for one in mean], [max(float(round(one, 4)), 1e-3) for one in std]
    return tuple(kept[0]), tuple(kept[1])
