"""Time several works in turn, so that each sees the same minutes of a machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def in_turn(
    works: Mapping[K, Callable[[], object]], rounds: int, seconds: float
) -> dict[K, list[float]]:
    """Seconds that one call of each work takes, a figure a round.

    Args:
        works: by name; each is called once first, unmeasured.
        rounds: how often all of them are measured.
        seconds: that a measurement lasts at least, by repeating its call.
    """
    for work in works.values():
        work()
    found: dict[K, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(timed(work, seconds))
    return found


def timed(work: Callable[[], object], seconds: float) -> float:
    """Seconds of a call, the mean of as many as fill a window."""
    calls, begun = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        elapsed = time.perf_counter() - begun
        if elapsed >= seconds:
            return elapsed / calls
