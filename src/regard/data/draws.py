"""Random numbers that are a pure function of (seed, epoch, example), for a whole batch at once.

Shapes: B examples, N numbers of each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]


class Draws:
    """Uniform numbers of some examples; each call gives the next ones.

    Made by SplitMix64 (Steele et al., 2014), a counter put through a bijection, so that no
    example's numbers depend on which others stand beside it in a batch.

    Args:
        seed: of the run.
        epoch: counted from 0.
        rows: the examples' numbers [B].
    """

    def __init__(self, seed: int, epoch: int, rows: npt.NDArray[np.int64]) -> None:
        key = np.zeros(len(rows), dtype=np.uint64)
        for part in (seed, epoch, rows):
            key = _mixed(key ^ np.asarray(part).astype(np.uint64))
        self._state: Words = key

    def __call__(self, count: int) -> Floats:
        """[B, N] in [0, 1)."""
        steps = np.arange(1, count + 1, dtype=np.uint64) * _STEP
        words = _mixed(self._state[:, None] + steps)
        self._state = self._state + steps[-1]
        found: Floats = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return found

    def one(self) -> Floats:
        """[B] in [0, 1)."""
        found: Floats = self(1)[:, 0]
        return found

    def below(self, limit: int) -> npt.NDArray[np.int64]:
        """Whole numbers [B] in [0, limit)."""
        return (self.one() * limit).astype(np.int64)


_STEP = np.uint64(0x9E3779B97F4A7C15)
_BITS: tuple[Callable[[Words], Words], ...] = (
    lambda z: (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9),
    lambda z: (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB),
    lambda z: z ^ (z >> np.uint64(31)),
)


def _mixed(words: Words) -> Words:
    words = words + _STEP
    for turn in _BITS:
        words = turn(words)
    return words
