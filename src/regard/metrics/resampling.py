"""Intervals and paired tests by drawing the examples again (Efron 1979; Koehn 2004)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from regard.metrics.score import Comparison, Score

Ints = npt.NDArray[np.int64]
Measure = Callable[[Ints], float]
"""The score of some examples, by their numbers."""

SEED = 12345
SAMPLES = 1000
"""Of a paired test."""


def draws(count: int, samples: int) -> Ints:
    """Numbers of examples [samples, count], the same at every call."""
    random = np.random.Philox(SEED)
    raw = random.random_raw(samples * count).reshape(samples, count)
    return (raw % np.uint64(count)).astype(np.int64)


def interval(measure: Measure, count: int, samples: int) -> tuple[float, float] | None:
    """The 95 % interval of a score over ``count`` examples; None without resamples."""
    if samples < 2:
        return None
    values = sorted(measure(rows) for rows in draws(count, samples))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def p_value(systems: tuple[Measure, Measure], count: int, samples: int) -> float:
    """How often so large a difference of two comes by chance, two-sided, from paired resamples."""
    ours, theirs = systems
    everything = np.arange(count)
    found = ours(everything) - theirs(everything)
    if found == 0.0:
        return 1.0
    shifted = [ours(rows) - theirs(rows) - found for rows in draws(count, samples)]
    extreme = sum(abs(value) >= abs(found) for value in shifted)
    return (extreme + 1) / (samples + 1)


def compared(
    scores: tuple[Score, Score], systems: tuple[Measure, Measure], count: int
) -> Comparison:
    """Our score beside theirs on the same examples, by paired bootstrap resampling.

    Args:
        scores: ours and theirs, of one name and signature.
        systems: how each is measured.
        count: of the examples.
    """
    ours, theirs = scores
    test = f"paired bootstrap of {SAMPLES}"
    signature = f"{ours.signature}|{test}" if ours.signature else test
    return Comparison(ours.name, theirs, ours, p_value(systems, count, SAMPLES), signature)
