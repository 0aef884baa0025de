"""Settings of training, in the recipe's words (``training.*`` and ``evaluation.*``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class OptimizerSettings:
    """How a gradient becomes a step.

    Attributes:
        kind: ``adam``, ``adamw`` or ``adafactor``.
        betas: adam, adamw: decay of the two moments (paper, section 5.3).
        eps: adam, adamw: added to the denominator.
        weight_decay: adamw, adafactor: share of a matrix taken off per step, times the rate.
    """

    kind: str = "adam"
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate, step by step.

    Attributes:
        kind: ``noam``, ``inverse_sqrt``, ``cosine``, ``linear``, ``constant`` or ``wsd``.
        peak: highest learning rate; noam follows from ``d_model`` and ``factor`` instead.
        warmup_steps: steps until the peak.
        factor: of noam.
        d_model: of noam; the caller fills it in from the model.
    """

    kind: str = "inverse_sqrt"
    peak: float = 5e-4
    warmup_steps: int = 4000
    factor: float = 1.0
    d_model: int = 0


@dataclass(frozen=True)
class CheckpointSettings:
    """When weights are kept.

    Attributes:
        every_steps: save after so many steps.
        every_epochs: save after so many epochs; 1 if neither is given.
        keep: newest checkpoints that stay; the best stays too.
        average: the weights of the last so many are averaged for use; 0 = not.
    """

    every_steps: int | None = None
    every_epochs: int | None = None
    keep: int = 5
    average: int = 0


@dataclass(frozen=True)
class EvaluationSettings:
    """How a run is watched.

    Attributes:
        every_steps: evaluate after so many steps.
        every_epochs: evaluate after so many epochs; 1 if neither is given.
        metric: which of the scores says what is best.
        samples: examples shown beside each evaluation.
    """

    every_steps: int | None = None
    every_epochs: int | None = None
    metric: str = "loss"
    samples: int = 3


@dataclass(frozen=True)
class TrainingSettings:
    """All that the loop is told.

    Attributes:
        max_steps: stop after so many steps.
        max_epochs: stop after so many passes over the data, whichever comes first.
        batch_tokens, batch_size, batch_measure: what a micro-batch holds (the source's matter).
        accumulate: micro-batches of one step, on each rank.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        seed: of dropout and the order of the data.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads; 0 = as many as torch finds cores.
        clip_norm: longest gradient allowed; 0 = no limit.
        gradient_checkpointing: compute layers twice, to hold less memory.
        ema: decay of a moving average of the weights; 0 = none.
        layer_decay: each layer down learns this much slower; 1 = no slower.
        patience: stop after so many evaluations without a better score; 0 = never.
        workers: processes that prepare batches (the source's matter).
        log_every: steps between two lines of metrics.
    """

    max_steps: int | None = None
    max_epochs: int | None = None
    batch_tokens: int | None = None
    batch_size: int | None = None
    batch_measure: str = "tokens"
    accumulate: int = 1
    precision: PrecisionName = "auto"
    seed: int = 1
    device: str = "auto"
    threads: int = 0
    clip_norm: float = 0.0
    gradient_checkpointing: bool = False
    ema: float = 0.0
    layer_decay: float = 1.0
    patience: int = 0
    workers: int = 0
    log_every: int = 50
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)


def is_due(
    settings: CheckpointSettings | EvaluationSettings, step: int, epochs: int | None
) -> bool:
    """Whether something with a rhythm falls on this step.

    Args:
        settings: with ``every_steps`` and ``every_epochs``.
        step: steps done, from 1.
        epochs: epochs done when one has just ended, else None.
    """
    if settings.every_steps is not None:
        return step % settings.every_steps == 0
    return bool(epochs) and (epochs or 0) % (settings.every_epochs or 1) == 0
