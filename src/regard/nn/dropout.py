"""Dropout (Srivastava et al., 2014), with masks that are cheap on a CPU.

Shapes: states of any shape, lanes [n] for n elements.

Drawing the mask is what dropout costs on a CPU: torch's Bernoulli numbers take ten times as long
as the multiplication. Here 64-bit words come from a fast generator and each of their four 16-bit
lanes decides one element. The generator is seeded by torch's default one at every call, so that
checkpointing and a resumed run, which restore that one, get the same masks again. Where operators
in C++ are loaded, they draw the lanes and use them in one pass, and nothing is kept but the seed.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regard.nn.native import operators

LANES = 1 << 16


class Dropout(nn.Module):
    """Zero each element with probability ``p`` in training and scale the others by 1/(1 - p).

    On CPUs p is rounded to a multiple of 2⁻¹⁶, and the scale is exact for the rounded p.

    Args:
        p: probability of a zero, 0 ≤ p < 1.

    Raises:
        ValueError: for another p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a dropout probability lies in [0, 1), not at {p}")
        self.p = p

    def forward(self, states: Tensor) -> Tensor:
        """Any shape → the same."""
        if not self.training or self.p == 0.0:
            return states
        return drop(states, self.p)

    def add(self, residual: Tensor, states: Tensor) -> Tensor:
        """residual + dropout(states), in one pass over them; all of one shape."""
        if not self.training or self.p == 0.0:
            return residual + states
        if not _cheap(states) or residual.dtype != states.dtype:
            return residual + F.dropout(states, self.p)
        function = _Seeded if operators.serve_training(states, residual) else _Dropped
        return cast(Tensor, function.apply(states, residual, self.p))  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


def drop(states: Tensor, p: float) -> Tensor:
    """Dropout of states of any shape, by the cheap masks where they serve."""
    if not _cheap(states):
        return F.dropout(states, p)
    function = _Seeded if operators.serve_training(states) else _Dropped
    return cast(Tensor, function.apply(states, None, p))  # type: ignore[no-untyped-call]


def _cheap(states: Tensor) -> bool:
    """Also on the meta device, where costs are counted as a CPU has them."""
    return states.device.type in ("cpu", "meta") and not torch.compiler.is_compiling()


def draw_seed() -> int:
    """A seed from torch's default generator."""
    return int(torch.empty((), dtype=torch.int64).random_())


def draw_mask(states: Tensor, p: float) -> tuple[Tensor, float]:
    """A mask for states, and the scale of what it keeps.

    Every lane is equally likely. Bytes are a quarter of the states' size to keep, and faster to
    make and to read than bools.

    Returns:
        uint8 of the states' shape, 1 where an element is kept; 1 / (1 - the rounded p).
    """
    zeros = min(round(p * LANES), LANES - 1)
    count = states.numel()
    words = torch.empty(-(-count // 4) or 1, dtype=torch.int64, device=states.device)  # of 4 lanes
    if not states.is_meta:
        words = torch.from_numpy(np.random.SFC64(draw_seed()).random_raw(len(words)).view(np.int64))
    lanes = words.view(torch.int16)[:count]  # -LANES / 2 … LANES / 2 - 1
    kept = torch.empty(count, dtype=torch.uint8, device=states.device)
    torch.ge(lanes, zeros - LANES // 2, out=kept)
    return kept.view(states.shape), LANES / (LANES - zeros)


class _Dropped(torch.autograd.Function):
    """residual + mask * scale * states, or without a residual; saves the mask as bytes."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, residual: Tensor | None, p: float) -> Tensor:
        kept, ctx.scale = draw_mask(states, p)
        ctx.save_for_backward(kept)
        ctx.alone = residual is None
        mask = kept.to(states.dtype)
        if residual is None:
            return mask.mul_(states).mul_(ctx.scale)
        return torch.addcmul(residual, states, mask, value=ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        dropped = kept.to(gradient.dtype).mul_(gradient).mul_(ctx.scale)
        return dropped, None if ctx.alone else gradient, None


class _Seeded(torch.autograd.Function):
    """The same by C++; saves the seed."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, residual: Tensor | None, p: float) -> Tensor:
        ctx.p, ctx.seed, ctx.alone = p, draw_seed(), residual is None
        beside = None if residual is None else residual.contiguous()
        return operators.drop(states.contiguous(), beside, p, ctx.seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        dropped = operators.drop(gradient.contiguous(), None, ctx.p, ctx.seed)
        return dropped, None if ctx.alone else gradient, None
