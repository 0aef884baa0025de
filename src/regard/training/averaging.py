"""Averages of weights: of several checkpoints, and an exponential moving one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from regard.errors import CheckpointError
from regard.files import sha256
from regard.training import foreach
from regard.training.checkpoints import (
    BASE,
    CHECKSUMS,
    EMA,
    MEAN,
    WEIGHTS,
    Checkpoint,
    CheckpointStore,
)


def mean_weights(checkpoints: Sequence[Checkpoint], name: str = WEIGHTS) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints, summed in float64, in their own dtype.

    One tensor at a time is held beside the result. What does not train is the same in all of them.

    Raises:
        CheckpointError: one cannot be read, or they hold other tensors than each other.
    """
    try:
        return _mean(checkpoints, name)
    except (OSError, SafetensorError) as error:
        where = str(checkpoints[0].path.parent)
        raise CheckpointError(f"cannot be averaged: {error}", where=where) from error


def _mean(checkpoints: Sequence[Checkpoint], name: str) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    with ExitStack() as stack:
        opened: list[Any] = [
            stack.enter_context(safe_open(one.file(name), framework="pt")) for one in checkpoints
        ]
        for one, file in zip(checkpoints, opened, strict=True):
            if set(file.keys()) != set(opened[0].keys()):
                raise CheckpointError(
                    f"holds other tensors than {checkpoints[0].path.name}", where=str(one.path)
                )
        for key in sorted(opened[0].keys()):
            first: Tensor = opened[0].get_tensor(key)
            if not first.is_floating_point():
                result[key] = opened[-1].get_tensor(key)
                continue
            total = first.double()
            for file in opened[1:]:
                total += file.get_tensor(key)
            result[key] = (total / len(opened)).to(first.dtype)
    base = checkpoints[0].base
    kept = base.tensors(BASE) if name == WEIGHTS and base.path.exists() else {}
    return {**kept, **result}


def mean_for_use(checkpoints: Sequence[Checkpoint]) -> dict[str, Tensor]:
    """The mean of checkpoints, of their moving averages where they hold such.

    Raises:
        CheckpointError: one is damaged, or they hold other tensors than each other.
    """
    for one in checkpoints:
        one.check_for_use()
    tensors = mean_weights(checkpoints)
    if all(one.has(EMA) for one in checkpoints):
        tensors.update(mean_weights(checkpoints, EMA))
    return tensors


def keep_mean(store: CheckpointStore, checkpoints: Sequence[Checkpoint]) -> None:
    """Write `mean_for_use` beside the checkpoints, where `kept_mean` finds it.

    Raises:
        CheckpointError: as there, or it cannot be written.
    """
    store.save_mean(mean_for_use(checkpoints), _marks(checkpoints))


def kept_mean(checkpoints: Sequence[Checkpoint]) -> dict[str, Tensor] | None:
    """What was kept of just these checkpoints; nothing where it is damaged, or is of others."""
    kept = Checkpoint(0, checkpoints[0].path.parent / MEAN)
    with suppress(CheckpointError, OSError):
        of = _marks(checkpoints)
        if kept.path.exists() and kept.fault(for_use=True) is None and kept.state().get("of") == of:
            tensors = kept.tensors()
            if kept.state().get("of") == of:  # else a run that goes on has just replaced it
                return tensors
    return None


def _marks(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    """What tells each from any other: the checksum of its checksums."""
    return {one.path.name: sha256(one.path / CHECKSUMS) for one in checkpoints}


class MovingAverage:
    """An exponential moving average of the weights, in float32.

    After step t it moves by 1 - min(decay, (1 + t) / (10 + t)), so that the random start is soon
    forgotten.

    Attributes:
        average: by the parameter's name.
    """

    def __init__(self, decay: float, weights: Mapping[str, Tensor]) -> None:
        self.decay = decay
        self._weights = list(weights.values())
        self.average = {name: weight.detach().clone() for name, weight in weights.items()}

    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            foreach.lerp(list(self.average.values()), self._weights, share)

    @contextmanager
    def in_place(self, refresh: Callable[[], None]) -> Iterator[None]:
        """In the block, the weights hold the average; ``refresh`` takes them to the model."""
        with torch.no_grad():
            kept = [weight.clone() for weight in self._weights]
            foreach.copy(self._weights, list(self.average.values()))
        refresh()
        try:
            yield
        finally:
            with torch.no_grad():
                foreach.copy(self._weights, kept)
            refresh()
