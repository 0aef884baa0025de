"""The parts of one training run, and what happens between two of its steps."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from regard.errors import CheckpointError, RecipeError, RegardError
from regard.training.averaging import MovingAverage
from regard.training.checkpoints import EMA, WEIGHTS, Checkpoint, CheckpointStore
from regard.training.device import choose_device, settle
from regard.training.distributed import Ranks
from regard.training.evaluation import Evaluate, Report, undisturbed
from regard.training.events import Evaluated, Event, Listener, Saved, Started, Warned
from regard.training.objective import Loss, Objective, Source
from regard.training.optimizers import Optimizer, make_optimizer
from regard.training.precision import Precision, make_precision
from regard.training.progress import Progress, higher_is_better
from regard.training.schedules import Schedule, make_schedule
from regard.training.settings import TrainingSettings, is_due
from regard.training.state import (
    load_optimizer,
    load_random,
    load_tensors,
    model_tensors,
    optimizer_tensors,
    random_tensors,
)
from regard.training.writers import Resumable

OPTIMIZER, RANDOM = "optimizer", "random"


@dataclass
class Session:
    """One run's parts; `open_session` makes it.

    Attributes:
        loss: model and objective as one module.
        progress: the counters.
        unsaved: whether something has changed since the last checkpoint.
    """

    model: nn.Module
    loss: Loss
    source: Source
    settings: TrainingSettings
    ranks: Ranks
    device: torch.device
    precision: Precision
    optimizer: Optimizer
    schedule: Schedule
    horizon: int | None
    ema: MovingAverage | None
    store: CheckpointStore | None
    listeners: Sequence[Listener]
    progress: Progress = field(default_factory=Progress)
    unsaved: bool = False

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self.listeners:
            listener(event)

    # Between two steps

    def evaluate(self, evaluate: Evaluate, guard: AbstractContextManager[None]) -> bool:
        """Score the model (its moving average, where there is one); whether it is the best.

        Args:
            evaluate: called on rank 0 alone.
            guard: entered around the call alone, and may leave it by an exception.
        """
        began = time.perf_counter()
        report = Report({})
        if self.ranks.main:
            averaged = self.ema.in_place(self.precision.refresh) if self.ema else nullcontext()
            with averaged, undisturbed(self.model), guard:
                found = evaluate(self.model)
            report = found if isinstance(found, Report) else Report(found)
        scores = self.ranks.share({key: float(value) for key, value in report.scores.items()})
        best = self.progress.take_scores(scores, self.settings.evaluation.metric)
        self.unsaved = self.unsaved or self.progress.step > 0
        seconds = time.perf_counter() - began
        self.emit(Evaluated(self.progress.step, scores, tuple(report.samples), best, seconds))
        return best

    def save(self, reason: str) -> None:
        """Write a checkpoint; ``reason`` says why the run ends here, empty if it goes on."""
        began = time.perf_counter()
        generators = random_tensors(self.ranks, self.device)  # of all ranks
        self.unsaved = False
        if self.store is None or not self.ranks.main:
            return
        saved = self.store.save(self.progress.step, self._files(generators), self._state(reason))
        if self.progress.best_step == self.progress.step:
            self._mark_best()
        self.store.prune()
        self.emit(Saved(saved.step, saved.path, time.perf_counter() - began))

    def _files(self, generators: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        trained, frozen = self.precision.trained_weights, self.precision.frozen_weights
        weights = model_tensors(self.model, self.precision.weights)
        files = {
            WEIGHTS: {name: held for name, held in weights.items() if name not in frozen},
            OPTIMIZER: optimizer_tensors(self.optimizer, trained),
            RANDOM: generators,
        }
        if self.ema is not None:
            files[EMA] = self.ema.average
        return files

    def _state(self, reason: str) -> dict[str, Any]:
        settings, progress = self.settings, self.progress
        scored = progress.evaluated == progress.step and progress.step > 0
        metric = progress.metric
        return {
            "progress": progress.to_json(),
            "precision": {"name": settings.precision, **self.precision.state()},
            "ranks": self.ranks.world,
            "reason": reason,
            "rhythm": is_due(settings.checkpoint, progress.step, progress.ended_epochs),
            "metric": metric,
            "value": progress.scores.get(metric) if scored else None,
            "higher_is_better": higher_is_better(metric),
            "files": {one.name: one.mark() for one in self._resumable()},
        }

    def _mark_best(self) -> None:
        assert self.store is not None
        progress = self.progress
        self.store.mark_best(progress.best_step, progress.metric, progress.best_value)

    # Going on

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take everything over from a checkpoint, and cut files back to it."""
        state = checkpoint.state()
        where = str(checkpoint.path)
        if "progress" not in state:
            raise CheckpointError(
                "holds weights alone, nothing that training could go on from",
                where=where,
                hint="start a new run from them: model.start_from=RUN",
            )
        everything = model_tensors(self.model, self.precision.weights)
        load_tensors(everything, checkpoint.tensors(), where)
        self.precision.refresh()
        self.precision.load_state(state["precision"])
        held = checkpoint.tensors(OPTIMIZER)
        load_optimizer(self.optimizer, self.precision.trained_weights, held)
        if self.ema is not None:
            load_tensors(self.ema.average, checkpoint.tensors(EMA), where)
        self.progress = Progress.from_json(state["progress"])
        load_random(checkpoint.tensors(RANDOM), self.ranks, self.device)
        if self.ranks.main:
            self.cut_back(state["files"])
            if self.progress.best_step >= 0:
                self._mark_best()

    def cut_back(self, marks: dict[str, int]) -> None:
        """Cut listeners' files back to a checkpoint's marks; to nothing where it has none."""
        for one in self._resumable():
            one.cut_back(marks.get(one.name, 0))

    def _resumable(self) -> list[Resumable]:
        listeners: Sequence[object] = self.listeners
        return [one for one in listeners if isinstance(one, Resumable)]


def open_session(
    model: nn.Module,
    objective: Objective,
    source: Source,
    settings: TrainingSettings,
    *,
    ranks: Ranks,
    store: CheckpointStore | None,
    listeners: Sequence[Listener],
) -> Session:
    """Put the parts of a run together; the model moves to its device and precision.

    Raises:
        RegardError: settings that cannot be met.
    """
    _check(objective, source, settings, ranks)
    settings = settle(settings)
    device = choose_device(settings.device, ranks.local)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(dropout_seed(settings.seed, ranks.rank))
    _set_checkpointing(model, settings.gradient_checkpointing)
    model.to(device).train()
    ranks.equalize(list(model.parameters()))
    precision = make_precision(settings.precision, model)
    weights = precision.trained_weights
    horizon = _horizon(source, settings, ranks)
    if store is not None:
        store.keep = max(settings.checkpoint.keep, settings.checkpoint.average)
    return Session(
        model=model,
        loss=Loss(model, objective),
        source=source,
        settings=settings,
        ranks=ranks,
        device=device,
        precision=precision,
        optimizer=make_optimizer(settings.optimizer, model, weights, settings.layer_decay),
        schedule=make_schedule(settings.schedule, horizon),
        horizon=horizon,
        ema=MovingAverage(settings.ema, weights) if settings.ema else None,
        store=store,
        listeners=listeners if ranks.main else (),
    )


def dropout_seed(seed: int, rank: int) -> int:
    """Another one for each rank, and for the first weights; torch's CPU generator reads 32 bits."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{rank}".encode(), digest_size=4).digest())


def begin(session: Session, *, resume: bool) -> None:
    """Start at step 0, or go on from the newest valid checkpoint; says which."""
    store, ranks = session.store, session.ranks
    found: Checkpoint | None = None
    note, warnings = "", list[str]()
    if store is not None:
        with ranks.first():
            if ranks.main:
                store.sweep()
            if resume:
                found, _ = store.newest_valid()
            if resume and ranks.main:
                warnings = store.set_aside(-1 if found is None else found.step)
        if not resume and store.all():
            raise RegardError("there are checkpoints already", where=str(store.directory))
    if found is not None:
        session.restore(found)
    elif resume:
        session.cut_back({})
        note = "there is no checkpoint to go on from"
    if found is None and store is not None and ranks.main and session.precision.frozen_weights:
        store.save_base(session.precision.frozen_weights)
    for text in warnings:
        session.emit(Warned(session.progress.step, text))
    session.emit(
        Started(
            session.progress.step,
            found is not None,
            session.horizon,
            session.settings.precision,
            str(session.device),
            session.settings.threads,
            ranks.world,
            sum(weight.numel() for weight in session.precision.trained_weights.values()),
            note,
        )
    )


def _check(objective: Objective, source: Source, settings: TrainingSettings, ranks: Ranks) -> None:
    if settings.max_steps is None and settings.max_epochs is None:
        raise RecipeError("give max_steps or max_epochs", where="training")
    if not objective.decomposable and settings.accumulate * ranks.world > 1:
        raise RecipeError(
            "this objective compares the items of a batch with each other: "
            "its batch cannot be split",
            where="training.accumulate",
            hint="set training.accumulate = 1, use one rank, and a larger batch instead",
        )
    if source.num_micro_batches(0) == 0:
        raise RegardError("there is nothing to train on", where="data.train")


def _set_checkpointing(model: nn.Module, wanted: bool) -> None:
    able: list[Any] = [one for one in model.modules() if hasattr(one, "gradient_checkpointing")]
    for module in able:
        module.gradient_checkpointing = wanted
    if wanted and not able:
        raise RecipeError(
            "no part of this model can compute its layers twice",
            where="training.gradient_checkpointing",
        )


def _horizon(source: Source, settings: TrainingSettings, ranks: Ranks) -> int | None:
    """Steps of the whole run, counting every epoch like the first."""
    ends = [] if settings.max_steps is None else [settings.max_steps]
    if settings.max_epochs is not None:
        window = settings.accumulate * ranks.world
        ends.append(settings.max_epochs * -(-source.num_micro_batches(0) // window))
    return min(ends, default=None)
