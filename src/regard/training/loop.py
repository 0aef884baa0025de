"""The one training loop. It knows no task and no family."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from regard.errors import RegardError
from regard.training import foreach
from regard.training.checkpoints import CheckpointStore
from regard.training.distributed import Ranks
from regard.training.evaluation import Evaluate
from regard.training.events import Listener, Stopped
from regard.training.objective import Objective, Source, on_device
from regard.training.optimizers import set_rate
from regard.training.progress import Result
from regard.training.reporting import Reporter
from regard.training.session import Session, begin, open_session
from regard.training.settings import TrainingSettings, is_due
from regard.training.signals import REASONS, Interrupted, Signals
from regard.training.window import next_window, not_finite


def train(
    model: nn.Module,
    objective: Objective,
    source: Source,
    settings: TrainingSettings,
    *,
    evaluate: Evaluate | None = None,
    listeners: Sequence[Listener] = (),
    store: CheckpointStore | None = None,
    resume: bool = False,
    ranks: Ranks | None = None,
) -> Result:
    """Train a model until the horizon, its patience or a signal.

    Args:
        model: on any device, float32; it is moved, trained in place and left in float32.
        objective: gives the terms of the loss.
        source: gives micro-batches; a step takes the next accumulate × ranks of an epoch's.
        settings: of the recipe.
        evaluate: called with the model before the first step, on its rhythm and at the end.
        listeners: called with every event; those that are `Resumable` are cut back on resuming.
        store: where checkpoints go; None = nowhere.
        resume: go on from the newest valid checkpoint, or from step 0 where there is none.
        ranks: of `distributed.join`; None = this process alone.

    Raises:
        RegardError: the loss or the gradient is not finite (no weight was touched, nothing saved).
        CheckpointError: a checkpoint cannot be written, or does not fit.
    """
    ranks = ranks or Ranks()
    session = open_session(
        model, objective, source, settings, ranks=ranks, store=store, listeners=listeners
    )
    try:
        begin(session, resume=resume)
        step = Stepper(session)
        with Signals() as signals:
            while not (reason := _between_steps(session, evaluate, signals)):
                step()
    except BaseException:
        with suppress(RegardError):  # of a log that cannot be written: the first error counts
            session.emit(Stopped(session.progress.step, "failed"))
        raise
    finally:
        session.precision.finish()
    session.emit(Stopped(session.progress.step, reason))
    return session.progress.result(reason)


def _between_steps(session: Session, evaluate: Evaluate | None, signals: Signals) -> str:
    """Evaluate and save where it is time; why the run ends here, or an empty string.

    All that decides is in the progress, so a resumed run does here what the unkilled one did.
    """
    settings, progress, ranks = session.settings, session.progress, session.ranks
    epochs = progress.ended_epochs
    best = False
    reason = ""
    if progress.step >= (settings.max_steps or math.inf):
        reason = "finished"
    if progress.epoch >= (settings.max_epochs or math.inf):
        reason = "finished"

    # Evaluate: before the first step, on the rhythm, at the end.
    timely = not progress.step or bool(reason) or is_due(settings.evaluation, progress.step, epochs)
    if evaluate is not None and timely and progress.evaluated != progress.step:
        try:
            best = session.evaluate(evaluate, signals.interrupting(allowed=ranks.world == 1))
        except Interrupted:
            reason = ""  # resuming makes it again
    if not reason and settings.patience and progress.stale >= settings.patience:
        reason = "patience"
    if not reason:
        reason = REASONS.get(ranks.any(signals.received), "")

    # Save: the best, on the rhythm, at the end.
    timely = best or bool(reason) or is_due(settings.checkpoint, progress.step, epochs)
    if session.unsaved and timely:
        session.save(reason)
    return reason


class Stepper:
    """Makes steps: window, forward and backward, check, update, report."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.report = Reporter(
            session.precision.trained, session.settings.log_every, session.horizon
        )

    def __call__(self) -> None:
        """Make one step."""
        session, settings, ranks = self.session, self.session.settings, self.session.ranks
        progress, precision, source = session.progress, session.precision, session.source
        began, step = time.perf_counter(), progress.step + 1

        # Window: the next accumulate × ranks micro-batches, and what they count to.
        window = next_window(source, session.loss.objective, progress, settings.accumulate, ranks)

        # Forward and backward: every loss is divided by the whole window's count, not its own.
        terms: list[Tensor] = []
        for batch, counts in zip(window.batches, window.counts, strict=True):
            loss, sums = session.loss(on_device(batch, session.device), counts, window.totals)
            precision.backward(loss)
            terms.append(sums)
        gradients = precision.gradients()
        ranks.sum_gradients(gradients)

        # Check, before a weight is touched; all ranks see the same sums and norms.
        figures = torch.cat([*terms, foreach.norms(gradients)]).tolist()  # the step's one wait
        rows = [[figures.pop(0) for _ in window.totals] for _ in terms]
        sums_of_all = ranks.sum([sum(row[i] for row in rows) for i in range(len(window.totals))])
        norms = [norm / precision.scale for norm in figures]
        norm = math.hypot(*norms)
        usable = math.isfinite(norm)
        if not all(map(math.isfinite, sums_of_all)):
            raise not_finite("loss", step, source, window, rows)
        if not usable and not precision.overflow():
            raise not_finite("gradient", step, source, window, rows)

        # Update, clipped; a float16 step whose gradient overflows is left out and counted.
        rate = session.schedule(step)
        if usable:
            limit = settings.clip_norm
            factor = (limit / norm if 0.0 < limit < norm else 1.0) / precision.scale
            if factor != 1.0:
                foreach.scale(gradients, factor)
            set_rate(session.optimizer, rate)
            precision.step(session.optimizer)
            if session.ema is not None:
                session.ema.update(step)

        # Report.
        progress.advance(window.end, window.of)
        progress.skipped += not usable
        session.unsaved = True
        seconds = time.perf_counter() - began
        session.emit(self.report(progress, window, sums_of_all, norms, rate, seconds))
