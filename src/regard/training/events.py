"""What happens in a run, told to everything that watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Started:
    """Training begins or goes on.

    Attributes:
        step: steps done before.
        resumed: whether from a checkpoint.
        horizon: steps of the whole run, as far as known.
        precision, device, threads, ranks: what was chosen.
        parameters: trained ones.
        note: what a user should know.
    """

    step: int
    resumed: bool
    horizon: int | None
    precision: str
    device: str
    threads: int
    ranks: int
    parameters: int
    note: str = ""


@dataclass(frozen=True)
class StepDone:
    """A step was made.

    Attributes:
        step: its number, from 1.
        epoch: which it belongs to, from 0, and how much of it is done (0 to 1).
        terms: each term of the objective per item: means over the steps since the last line of
            metrics, e.g. ``loss`` and ``nll``.
        tokens: real tokens of the step, all ranks.
        tokens_per_second: over the steps since the last line, evaluations and saves left out.
        rate: learning rate.
        gradient_norm: before clipping.
        layer_norms: gradient norm of each layer, where this is a line of metrics.
        skipped: steps of the run left out because a float16 gradient overflowed.
        logged: whether this is a line of metrics.
    """

    step: int
    epoch: float
    terms: Mapping[str, float]
    tokens: int
    tokens_per_second: float
    rate: float
    gradient_norm: float
    layer_norms: Mapping[str, float] = field(default_factory=dict)
    skipped: int = 0
    logged: bool = False


@dataclass(frozen=True)
class Evaluated:
    """The model was evaluated.

    Attributes:
        step: after which step.
        scores: by metric.
        samples: what the task shows, JSON values.
        best: whether the run has had no better.
        seconds: that it took.
    """

    step: int
    scores: Mapping[str, float]
    samples: tuple[Any, ...] = ()
    best: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written.

    Attributes:
        step: of the checkpoint.
        path: where it lies.
        seconds: that it took.
    """

    step: int
    path: Path
    seconds: float = 0.0


@dataclass(frozen=True)
class Warned:
    """Something that a user should know, and that stops nothing."""

    step: int
    text: str


@dataclass(frozen=True)
class Stopped:
    """Training ended.

    Attributes:
        step: the last one.
        reason: ``finished``, ``patience``, ``interrupt``, ``terminate``, or ``failed`` where an
            error follows.
    """

    step: int
    reason: str


Event = Started | StepDone | Evaluated | Saved | Warned | Stopped
Listener = Callable[[Event], None]
