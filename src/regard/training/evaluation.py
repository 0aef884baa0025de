"""Validation by loss, and the face of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from regard.nn.modes import evaluating
from regard.training.objective import Objective, Source, on_device


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        scores: by metric.
        samples: JSON values to be shown beside them.
    """

    scores: Mapping[str, float]
    samples: tuple[Any, ...] = ()


Evaluate = Callable[[nn.Module], Mapping[str, float] | Report]


def validation_loss(
    model: nn.Module, objective: Objective, source: Source, device: torch.device | None = None
) -> dict[str, float]:
    """Each term of the objective per item over a source's first epoch, and the perplexity.

    Only sums are kept, never logits. Perplexity is exp of ``nll`` where there is such a term.
    """
    device = device or next(model.parameters()).device
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    with undisturbed(model):
        for k in range(source.num_micro_batches(0)):
            batch = on_device(source.micro_batch(0, k), device)
            for name, term in objective(model, batch).items():
                sums[name] = sums.get(name, 0.0) + float(term.sum)
                counts[name] = counts.get(name, 0.0) + term.count
    scores = {name: value / (counts[name] or 1.0) for name, value in sums.items()}
    if "nll" in scores:
        scores["perplexity"] = math.exp(min(scores["nll"], 700.0))
    return scores


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Without dropout or gradients; generators and modes are afterwards what they were."""
    # Asking without need would wake a GPU that nobody uses.
    devices = [torch.cuda.current_device()] if cast(Any, torch.cuda).is_initialized() else []
    with evaluating(model), torch.random.fork_rng(devices=devices), torch.no_grad():
        yield
