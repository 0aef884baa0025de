"""States without padding: layers that treat each position by itself need not compute it.

Shapes: states [B, T, d]; packed states [1, N, d] for the real tokens among the B * T slots, and
where `backend.rounded` wants more, copies of one of them that nobody reads.

A batch of texts of unequal length is padded to the longest. Projections, feed-forward networks,
norms and dropout run over the real tokens alone; attention spreads its heads to [B, heads, T,
width] and merges what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.nn import backend, kernels
from regard.nn.linear import joined
from regard.nn.masks import Padding, Rule

LEAST_PADDING = 1 / 8
"""Share of padding from which leaving it out pays for the copies around attention."""


@dataclass(frozen=True, eq=False)
class Places:
    """The way from tokens to heads and back, in rows of one head's numbers.

    On one side stand the tokens, [N, heads of all parts]; on the other the parts one after another,
    [B, heads, T] each.

    Attributes:
        of_heads: int64, for each row of the parts the tokens' row that belongs there.
        of_tokens: int64, for each row of the tokens the parts' row that belongs there.
        padding: int64, rows of the parts where there is no token.
    """

    of_heads: Tensor
    of_tokens: Tensor
    padding: Tensor


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
    _places: dict[tuple[int, ...], Places] = field(default_factory=dict, repr=False)

    def pack(self, states: Tensor) -> Tensor:
        """[B, T, d] → [1, N, d]."""
        return _call(_Pack, states, self)

    def pack_positions(self, positions: Tensor) -> Tensor:
        """[B or 1, T, …] → [1, N, …]."""
        every = positions.expand(*self.shape, *positions.shape[2:])
        return every.flatten(0, 1)[self.slots][None]

    def heads(self, parts: Sequence[Tensor], counts: Sequence[int]) -> tuple[Tensor, ...]:
        """Parts [1, N, heads * width] → [B, heads, T, width] of each, in one copy.

        Padding holds any token's states, and gives no gradient.

        Args:
            parts: such as queries, keys and values.
            counts: how many heads each has.
        """
        widths = {part.shape[-1] // count for part, count in zip(parts, counts, strict=True)}
        if len(widths) > 1:
            pairs = zip(parts, counts, strict=True)
            return tuple(self.heads([part], [count])[0] for part, count in pairs)
        made = _Heads.apply(self, tuple(counts), *parts)  # type: ignore[no-untyped-call]
        return cast(tuple[Tensor, ...], made)

    def merge(self, mixed: Tensor) -> Tensor:
        """[B, heads, T, width] → [1, N, heads * width]; from padding comes no gradient."""
        return _call(_Merge, mixed, self)

    def places(self, counts: tuple[int, ...]) -> Places:
        """Of parts with so many heads each; found once a batch."""
        if counts not in self._places:
            self._places[counts] = _find_places(self, counts)
        return self._places[counts]

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


class _Restore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return _put(states, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _unread(_take(gradient, ctx.rows), ctx.rows), None


class _Heads(torch.autograd.Function):
    """One copy for all parts that a projection made together, and one for their gradients."""

    @staticmethod
    def forward(
        ctx: Any, rows: Rows, counts: tuple[int, ...], *parts: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.rows, ctx.counts = rows, counts
        width, (batch, length) = parts[0].shape[-1] // counts[0], rows.shape
        made = joined(parts).reshape(-1, width).index_select(0, rows.places(counts).of_heads)
        split = torch.split(made, [batch * count * length for count in counts])
        pairs = zip(split, counts, strict=True)
        return tuple(one.view(batch, count, length, width) for one, count in pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        width = gradients[0].shape[-1]
        stacked = joined([one.flatten() for one in gradients]).view(-1, width)
        made = stacked.index_select(0, ctx.rows.places(ctx.counts).of_tokens)
        by_tokens = _unread(made.view(1, len(ctx.rows.slots), -1), ctx.rows)
        columns = [count * width for count in ctx.counts]
        return None, None, *torch.split(by_tokens, columns, dim=-1)


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mixed: Tensor, rows: Rows) -> Tensor:
        ctx.rows, ctx.shape = rows, mixed.shape
        places = rows.places((mixed.shape[1],))
        made = mixed.reshape(-1, mixed.shape[-1]).index_select(0, places.of_tokens)
        return made.view(1, len(rows.slots), -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        places = ctx.rows.places((ctx.shape[1],))
        made = gradient.reshape(-1, ctx.shape[-1]).index_select(0, places.of_heads)
        return made.index_fill_(0, places.padding, 0.0).view(ctx.shape), None


def _unread(states: Tensor, rows: Rows) -> Tensor:
    """Gradients [1, N, d], zero for the copies that nobody reads."""
    states[0, rows.count :] = 0.0
    return states


def _find_places(rows: Rows, counts: tuple[int, ...]) -> Places:
    batch, length = rows.shape
    tokens = rows.tokens.view(batch, 1, length)
    real = torch.zeros_like(rows.tokens, dtype=torch.bool)
    real[rows.slots] = True
    of_heads, of_tokens, padding, before = [], [], [], 0  # `before`: heads of earlier parts
    for count in counts:
        heads = torch.arange(before, before + count, device=tokens.device)
        of_heads.append((tokens * sum(counts) + heads[:, None]).flatten())  # [B, count, T]
        stand = torch.arange(count * len(real), device=tokens.device) + before * len(real)
        by_slot = stand.view(batch, count, length).transpose(1, 2).reshape(-1, count)
        of_tokens.append(by_slot[rows.slots])  # [N, count]
        padding.append(by_slot[~real].flatten())
        before += count
    every = torch.cat(of_tokens, dim=1).flatten()
    return Places(torch.cat(of_heads), every, torch.cat(padding))
