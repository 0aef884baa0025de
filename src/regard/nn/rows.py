"""States without padding: layers that treat each position by itself need not compute it.

Shapes: states [B, T, d]; packed states [1, N, d] for the real tokens among the B * T slots, and
where `backend.rounded` wants more, copies of one of them that nobody reads.

A batch of texts of unequal length is padded to the longest. Projections, feed-forward networks,
norms and dropout run over the real tokens alone; attention spreads its heads to [B, T, d] and packs
what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from regard.nn import backend, kernels
from regard.nn.masks import Padding, Rule

LEAST_PADDING = 1 / 8
"""Share of padding from which leaving it out pays for the copies around attention."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Where the real tokens stand.

    Attributes:
        slots: int64 [N], their places among the B * T slots.
        tokens: int64 [B * T], which of the N stands in each slot; 0 where there is padding.
        shape: B and T.
        count: how many of the N are real tokens; they come first.
    """

    slots: Tensor
    tokens: Tensor
    shape: tuple[int, int]
    count: int

    def pack(self, states: Tensor) -> Tensor:
        """[B, T, d] → [1, N, d]."""
        return _call(_Pack, states, self)

    def pack_positions(self, positions: Tensor) -> Tensor:
        """[B or 1, T, …] → [1, N, …]."""
        every = positions.expand(*self.shape, *positions.shape[2:])
        return every.flatten(0, 1)[self.slots][None]

    def spread(self, states: Tensor) -> Tensor:
        """[1, N, d] → [B, T, d]; padding holds any token's states, and gives no gradient."""
        return _call(_Spread, states, self)

    def restore(self, states: Tensor) -> Tensor:
        """[1, N, d] → [B, T, d]; padding holds zeros."""
        return _call(_Restore, states, self)


def find_rows(rule: Rule, states: Tensor) -> Rows | None:
    """The real tokens of states [B, T, d] that are padded by ``rule``; None where it pays nothing.

    Only on CPUs: elsewhere the number of tokens would have to be waited for.
    """
    if not isinstance(rule, Padding) or states.device.type != "cpu":
        return None
    if rule.real.shape != states.shape[:2]:
        return None
    if torch.compiler.is_compiling() or kernels.observed():
        return None
    real = rule.real.flatten()
    slots = real.nonzero()[:, 0]
    count, every = len(slots), len(real)
    awkward = backend.rounded(every, states.dtype) != every
    if count == 0 or (count > (1.0 - LEAST_PADDING) * every and not awkward):
        return None
    copies = slots[:1].expand(backend.rounded(count, states.dtype) - count)
    tokens = (real.cumsum(0) - 1).mul_(real)
    return Rows(torch.cat([slots, copies]), tokens, (len(rule.real), rule.real.shape[1]), count)


def _call(function: type[torch.autograd.Function], states: Tensor, rows: Rows) -> Tensor:
    return cast(Tensor, function.apply(states, rows))  # type: ignore[no-untyped-call]


def _take(states: Tensor, rows: Rows) -> Tensor:
    """[B, T, d] → [1, N, d]."""
    return states.flatten(0, 1).index_select(0, rows.slots)[None]


def _put(states: Tensor, rows: Rows) -> Tensor:
    """[1, N, d] → [B, T, d], zeros elsewhere."""
    room = states.new_zeros(len(rows.tokens), states.shape[-1])
    slots, real = rows.slots[: rows.count], states[0, : rows.count]
    return room.index_copy_(0, slots, real).view(*rows.shape, -1)


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return _take(states, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _put(gradient, ctx.rows), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return states[0].index_select(0, rows.tokens).view(*rows.shape, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        taken = _take(gradient, ctx.rows)
        taken[0, ctx.rows.count :] = 0.0
        return taken, None


class _Restore(_Spread):
    """Zeros at padding; the gradient is the same as `_Spread`'s, of the real places alone."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return _put(states, rows)
