"""What the loop asks of an objective and of a source of batches, and the two as one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from regard.errors import RegardError

Batch = dict[str, Tensor]


class Term(Protocol):
    """A sum over items, their count, and the weight in the loss (0 = watched only)."""

    @property
    def sum(self) -> Tensor: ...

    @property
    def count(self) -> float: ...

    @property
    def weight(self) -> float: ...


class Objective(Protocol):
    """A loss made of sums; see `regard.objectives`."""

    @property
    def decomposable(self) -> bool: ...

    def counts(self, batch: Batch) -> Mapping[str, float]: ...

    def __call__(self, model: nn.Module, batch: Batch) -> Mapping[str, Term]: ...


class Source(Protocol):
    """Micro-batches by epoch and number; see `regard.data.BatchSource`."""

    def num_micro_batches(self, epoch: int) -> int: ...

    def micro_batch(self, epoch: int, k: int) -> Batch: ...

    def describe(self, batch: Batch) -> list[str]: ...


class Loss(nn.Module):
    """Model and objective as one module, whose forward gives the loss."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(
        self, batch: Batch, counts: Mapping[str, float], totals: Mapping[str, float]
    ) -> tuple[Tensor, Tensor]:
        """The micro-batch's share of the step's loss.

        Args:
            batch: of the source.
            counts: of this micro-batch, from the objective.
            totals: of all micro-batches of the step, on all ranks.

        Returns:
            the share, whose gradients add up to the unsplit batch's, and the terms' sums [terms]
            in the order of ``counts``.

        Raises:
            RegardError: the terms do not have the announced counts.
        """
        terms = self.objective(self.model, batch)
        if terms.keys() != counts.keys() or any(
            term.count != counts[name] for name, term in terms.items()
        ):
            found = {name: term.count for name, term in terms.items()}
            raise RegardError(
                f"the objective announced the counts {dict(counts)} but summed over {found}",
                where=type(self.objective).__name__,
                hint="counts(batch) and the terms of the call must agree",
            )
        shares = [
            term.sum * (term.weight / (totals[name] or 1.0))
            for name, term in terms.items()
            if term.weight
        ]
        sums = torch.stack([terms[name].sum.detach().float() for name in counts])
        loss = shares[0]
        for share in shares[1:]:
            loss = loss + share
        return loss, sums


def count_tokens(batch: Batch, counts: Mapping[str, float]) -> int:
    """Real tokens of a batch: what it or its masks say, or else the items of the loss."""
    if "tokens" in batch:
        return int(batch["tokens"].sum())
    masks = [tensor for name, tensor in batch.items() if name.split("_")[-1] == "mask"]
    return sum(int(mask.sum()) for mask in masks) if masks else int(max(counts.values(), default=0))


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch's tensors on a device."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
