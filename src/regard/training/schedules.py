"""Learning rates: pure functions of the step, counted from 1 (the first update has step 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from regard import registry
from regard.errors import RecipeError
from regard.training.settings import ScheduleSettings

Schedule = Callable[[int], float]

INITIAL_RATE = 1e-7
"""Where inverse_sqrt's warm-up begins (fairseq's --warmup-init-lr as recipes set it)."""

DECAY_SHARE = 0.2
"""The last part of the run in which wsd goes down."""


def make_schedule(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """The schedule that ``settings`` asks for.

    Args:
        settings: its kind and numbers.
        horizon: steps of the whole run, which cosine, linear and wsd need.
    """
    return cast(Schedule, registry.kind("schedules", settings.kind)(settings, horizon))


def noam(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """factor · d_model^-0.5 · min(step^-0.5, step · warmup^-1.5) (paper, section 5.3)."""
    if settings.d_model < 1:
        raise RecipeError("noam needs the model's width", where="training.schedule.kind")
    factor = settings.factor * settings.d_model**-0.5
    warmup = max(settings.warmup_steps, 1)
    return lambda step: factor * min(step**-0.5, step * warmup**-1.5)


def inverse_sqrt(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """Linear from 1e-7 to the peak, then peak · √(warmup / step) (fairseq's)."""
    warmup = max(settings.warmup_steps, 1)

    def rate(step: int) -> float:
        if step < warmup:
            return INITIAL_RATE + (settings.peak - INITIAL_RATE) * step / warmup
        return settings.peak * math.sqrt(warmup / step)

    return rate


def cosine(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """Linear to the peak, then half a cosine, which comes to 0 after the last step."""
    return _warm(settings, horizon, lambda share: 0.5 * (1.0 + math.cos(math.pi * share)))


def linear(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """Linear to the peak, then a line that comes to 0 after the last step."""
    return _warm(settings, horizon, lambda share: 1.0 - share)


def wsd(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """Warm-up, stable, decay: the peak until the run's last fifth, then a line to 0 after it."""
    return _warm(settings, horizon, lambda share: min(1.0, (1.0 - share) / DECAY_SHARE), whole=True)


def constant(settings: ScheduleSettings, horizon: int | None) -> Schedule:
    """Linear to the peak, then the peak."""
    warmup = settings.warmup_steps
    return lambda step: settings.peak * min(1.0, step / warmup if warmup else 1.0)


def _warm(
    settings: ScheduleSettings,
    horizon: int | None,
    shape: Callable[[float], float],
    *,
    whole: bool = False,
) -> Schedule:
    """Warm-up, then peak · shape(share of the way from the warm-up's end, or of the whole)."""
    if horizon is None:
        raise RecipeError(
            f"the schedule {settings.kind!r} needs to know the end of the run",
            where="training.schedule.kind",
            hint="give training.max_steps or training.max_epochs",
        )
    warmup = min(settings.warmup_steps, horizon)
    start = 0 if whole else warmup
    length = horizon - start + 1  # no step is made at rate 0

    def rate(step: int) -> float:
        if step < warmup:
            return settings.peak * step / warmup
        return settings.peak * shape(min(max(step - start, 0) / length, 1.0))

    return rate
