"""The window of a step: the next accumulate × ranks micro-batches of the epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regard.errors import RegardError
from regard.training.distributed import Ranks
from regard.training.objective import Batch, Objective, Source, count_tokens
from regard.training.progress import Progress

SHOWN = 8


@dataclass(frozen=True)
class Window:
    """What one step trains on.

    Attributes:
        epoch: of its micro-batches.
        end: micro-batches of the epoch consumed after it.
        of: micro-batches of the epoch.
        batches: this rank's, possibly none.
        counts: of each of them, by term.
        totals: counts of the whole window on all ranks: what sums are divided by.
        tokens: real tokens of the whole window on all ranks.
    """

    epoch: int
    end: int
    of: int
    batches: Sequence[Batch]
    counts: Sequence[Mapping[str, float]]
    totals: Mapping[str, float]
    tokens: int


def next_window(
    source: Source, objective: Objective, progress: Progress, accumulate: int, ranks: Ranks
) -> Window:
    """The window after ``progress``; the last one of an epoch may be short."""
    epoch = progress.epoch
    of = source.num_micro_batches(epoch)
    numbers = range(progress.consumed, min(progress.consumed + accumulate * ranks.world, of))
    batches = [source.micro_batch(epoch, k) for k in numbers[ranks.rank :: ranks.world]]
    counts = [objective.counts(batch) for batch in batches]
    # A rank that has no micro-batch left still needs the terms' names to add up with the others.
    names = list((counts or [objective.counts(source.micro_batch(epoch, numbers[0]))])[0])
    tokens = sum(count_tokens(*pair) for pair in zip(batches, counts, strict=True))
    sums = [math.fsum(count[name] for count in counts) for name in names]
    *totals, tokens_of_all = ranks.sum([*sums, tokens])
    return Window(
        epoch,
        numbers.stop,
        of,
        batches,
        counts,
        dict(zip(names, totals, strict=True)),
        int(tokens_of_all),
    )


def not_finite(
    what: str, step: int, source: Source, window: Window, rows: Sequence[Sequence[float]]
) -> RegardError:
    """The error for a loss or gradient that is not finite, naming the examples.

    Args:
        what: ``loss`` or ``gradient``.
        step: that was to be made.
        source: says where examples come from.
        window: of the step.
        rows: the terms' sums of each of this rank's micro-batches.
    """
    guilty = [
        batch
        for batch, row in zip(window.batches, rows, strict=True)
        if what == "gradient" or not all(map(math.isfinite, row))
    ]
    origins = [origin for batch in guilty for origin in source.describe(batch)]
    shown = ", ".join(origins[:SHOWN])
    if len(origins) > SHOWN:
        shown += f" and {len(origins) - SHOWN} more"
    return RegardError(
        f"the {what} of step {step} is not finite; no weight was touched, nothing was saved",
        where=shown or "another rank",
        hint="look at these examples; or start another run with a lower training.schedule.peak, "
        "more warmup_steps, training.clip_norm or training.precision = float32",
    )
