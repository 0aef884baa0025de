"""Operations on many tensors at once: the one place that calls torch's foreach family.

A Python loop over a model's parameters costs as much as a small step; these loop in C++.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def norms(tensors: Tensors) -> Tensor:
    """The 2-norm of each, as one vector [len(tensors)]."""
    return torch.stack(list(torch._foreach_norm(list(tensors))))


def scale(tensors: Tensors, factor: float) -> None:
    """Multiply each in place."""
    torch._foreach_mul_(list(tensors), factor)


def copy(to: Tensors, source: Tensors) -> None:
    """Copy each into its partner, whatever the dtypes."""
    torch._foreach_copy_(list(to), list(source))


def add(to: Tensors, source: Tensors) -> None:
    """Add each to its partner, in the partner's dtype."""
    torch._foreach_add_(list(to), list(source))


def lerp(to: Tensors, source: Tensors, share: float) -> None:
    """Move each towards its partner by ``share`` of the way."""
    torch._foreach_lerp_(list(to), list(source), share)
