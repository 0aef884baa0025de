"""Where a run stands: what a checkpoint keeps that is no tensor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regard.errors import RecipeError

LOWER_IS_BETTER = {
    *("loss", "nll", "perplexity", "bits", "error", "wer", "cer"),
    *("distance", "overlap"),  # of boxes: the loss's terms
}


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of a metric is better; an objective's terms and errors want less.

    Args:
        metric: words joined by ``_``, one of which may be one of `LOWER_IS_BETTER`.
    """
    return LOWER_IS_BETTER.isdisjoint(metric.split("_"))


@dataclass
class Interval:
    """Sums since the last line of metrics.

    Attributes:
        sums, counts: of each term.
        tokens: real ones, all ranks.
        seconds: spent in steps.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0

    def add(
        self,
        sums: Mapping[str, float],
        counts: Mapping[str, float],
        tokens: int,
        seconds: float,
    ) -> None:
        """Take in a step."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0.0) + counts[name]
        self.tokens += tokens
        self.seconds += seconds

    def means(self) -> dict[str, float]:
        """Each term per item."""
        return {name: value / (self.counts[name] or 1.0) for name, value in self.sums.items()}


EXIT_STATUS = {"interrupt": 130, "terminate": 143}


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: steps done.
        reason: ``finished``, ``patience``, ``interrupt`` (Ctrl-C) or ``terminate`` (SIGTERM).
        best_step, best_value: of the best evaluation; None without one.
        scores: of the last evaluation.
        skipped: steps left out because a float16 gradient overflowed.
    """

    step: int
    reason: str
    best_step: int | None
    best_value: float | None
    scores: dict[str, float]
    skipped: int

    @property
    def exit_status(self) -> int:
        """Of a process that did nothing else: 0, 130 or 143."""
        return EXIT_STATUS.get(self.reason, 0)


@dataclass
class Progress:
    """Counters of a run.

    Attributes:
        step: steps done.
        epoch: the epoch that the next step belongs to, from 0.
        consumed: micro-batches of it that steps have used.
        evaluated: the step that was last evaluated; -1 before the first time.
        scores: of that evaluation.
        best_step, best_value: of the run's best evaluation; the step is -1 before there is one.
        metric: that they were judged by; another one begins anew.
        stale: evaluations since the best.
        skipped: steps left out because a float16 gradient overflowed.
        tokens: real ones trained on.
        interval: sums since the last line of metrics.
    """

    step: int = 0
    epoch: int = 0
    consumed: int = 0
    evaluated: int = -1
    scores: dict[str, float] = field(default_factory=dict)
    best_step: int = -1
    best_value: float = 0.0
    metric: str = ""
    stale: int = 0
    skipped: int = 0
    tokens: int = 0
    interval: Interval = field(default_factory=Interval)

    @property
    def ended_epochs(self) -> int | None:
        """How many epochs are done, when one has just ended."""
        return self.epoch if self.step and not self.consumed else None

    def advance(self, end: int, of: int) -> None:
        """A step was made: ``end`` of the epoch's ``of`` micro-batches are consumed."""
        self.step += 1
        self.epoch, self.consumed = (self.epoch, end) if end < of else (self.epoch + 1, 0)

    def take_scores(self, scores: Mapping[str, float], metric: str) -> bool:
        """Note an evaluation; whether it is the best. That before the first step is no rival."""
        if metric not in scores:
            raise RecipeError(
                f"the evaluation gives no {metric!r}",
                where="evaluation.metric",
                hint=f"it gives: {', '.join(scores)}",
            )
        self.evaluated, self.scores = self.step, dict(scores)
        if self.metric and self.metric != metric:  # values of two metrics do not compare
            self.best_step, self.stale = -1, 0
        self.metric = metric
        if self.step == 0:
            return False
        value = scores[metric]
        gain = value - self.best_value if higher_is_better(metric) else self.best_value - value
        if math.isfinite(value) and (self.best_step < 0 or gain > 0):
            self.best_step, self.best_value, self.stale = self.step, value, 0
            return True
        self.stale += 1
        return False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    def result(self, reason: str) -> Result:
        """The end of a run."""
        best = self.best_step >= 0
        return Result(
            step=self.step,
            reason=reason,
            best_step=self.best_step if best else None,
            best_value=self.best_value if best else None,
            scores=self.scores,
            skipped=self.skipped,
        )

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Progress:
        """The inverse of `to_json`; keys of other formats are ignored."""
        known = {one.name for one in dataclasses.fields(cls)}
        values = {key: value for key, value in state.items() if key in known}
        values["interval"] = Interval(**values.get("interval", {}))
        return cls(**values)
