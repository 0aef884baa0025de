"""Attention by batched matrix products with a softmax between: fastest on CPUs at sentence lengths.

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value];
inside, with G = H / Hkv: query [B * Hkv, G * Tq, d_key], weights [B * Hkv, G * Tq, Tk].

What it saves over single steps are copies: heads that come as views of a projection are copied
once, and gradients are written in the order in which projections, or `Rows.heads`, want them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.nn.dropout import draw_mask, drop
from regard.nn.kernels.dense import share_heads
from regard.nn.kernels.layouts import find_layouts, make_rooms
from regard.nn.masks import MaskForm

SHORT_TEXTS = 48
"""Tokens of texts that are short: where the lower precisions' products do not pay."""

SHORT_ROWS = 16
"""Rows shorter than a vector register's 16 numbers: torch's own softmax is slow there."""


def packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskForm,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Batched products and softmax; see `regard.nn.kernels.Kernel`."""
    if query.device.type != "cpu" or torch.compiler.is_compiling():
        return _by_autograd(query, key, value, mask, scale, dropout, bias)
    additive = mask.additive(query.dtype)
    mixed = _Packed.apply(  # type: ignore[no-untyped-call]
        query, key, value, bias, additive, mask.blind, scale, dropout
    )
    return cast(Tensor, mixed)


def _by_autograd(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: MaskForm,
    scale: float,
    dropout: float,
    bias: Tensor | None,
) -> Tensor:
    """The same in single steps, where a compiler reads along."""
    num_heads = query.shape[1]
    key, value = share_heads(key, num_heads), share_heads(value, num_heads)
    scores = (query * scale) @ key.transpose(-2, -1)  # [B, H, Tq, Tk]
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    additive = mask.additive(scores.dtype)
    if additive is not None:
        scores = scores + additive
    weights = scores.softmax(dim=-1)
    if mask.blind is not None:
        weights = weights.masked_fill(mask.blind, 0.0)
    if dropout > 0.0:
        weights = drop(weights, dropout)
    return weights @ value  # [B, H, Tq, d_value]


class _Packed(torch.autograd.Function):
    """Each product in one call over all heads; softmax and its gradient in float32 or wider."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        additive: Tensor | None,
        blind: Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        batch, heads, queries, _ = query.shape
        inner = _inner_dtype(query, key)
        q, k, v = (_straight(x, inner, batch * key.shape[1]) for x in (query, key, value))
        scores = q.new_empty(len(q), q.shape[1], k.shape[1])  # [B * Hkv, G * Tq, Tk]
        by_head = scores.view(batch, heads, queries, -1)  # [B, H, Tq, Tk]
        addends = [one.to(q.dtype) for one in (bias, additive) if one is not None]
        for place, addend in enumerate(addends):
            by_head.copy_(addend) if place == 0 else by_head.add_(addend)
        _product(q, k.mT, scale, scores, onto=bool(addends))
        weights = _softmax(scores)
        if blind is not None:
            weights.view_as(by_head).masked_fill_(blind, 0.0)
        kept, kept_scale = draw_mask(weights, dropout) if dropout > 0.0 else (None, 1.0)
        mixed = torch.bmm(_masked(weights, kept, kept_scale), v)  # [B * Hkv, G * Tq, d_value]
        if q.dtype != query.dtype:
            q, k, v = query, key, value  # which hold less
        ctx.save_for_backward(q, k, v, weights, kept)
        ctx.layouts = find_layouts(query, key, value)
        ctx.scales = scale, kept_scale
        ctx.bias = None if bias is None else (bias.shape, bias.dtype)
        return mixed.view(batch, heads, queries, v.shape[-1]).to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, weights, kept = ctx.saved_tensors
        q, k, v = (_straight(x, weights.dtype, len(weights)) for x in inputs)
        scale, kept_scale = ctx.scales
        by_query, by_key, by_value = make_rooms(gradient.dtype, ctx.layouts)
        up = _straight(gradient, q.dtype, len(q))  # [B * Hkv, G * Tq, d_value]
        _fill(by_value, _masked(weights, kept, kept_scale).mT, up)
        by_weights = torch.bmm(up, v.mT)
        by_weights = _masked(by_weights, kept, kept_scale)
        by_scores = _softmax_backward(by_weights, weights)
        by_bias = None
        if ctx.needs_input_grad[3]:
            shape, dtype = ctx.bias
            by_bias = by_scores.view(*gradient.shape[:3], -1).sum_to_size(shape).to(dtype)
        _fill(by_query, by_scores, k, scale)
        _fill(by_key, by_scores.mT, q, scale)
        return by_query, by_key, by_value, by_bias, None, None, None, None


def _inner_dtype(query: Tensor, key: Tensor) -> torch.dtype:
    """Of the products: that of the states, or for short texts float32 in place of lower ones.

    oneDNN, which multiplies the lower ones, makes code anew for each shape, and batches of short
    texts come in ever new ones: that takes longer than what the lower one saves.
    """
    short = query.shape[-2] * key.shape[-2] <= SHORT_TEXTS**2
    return torch.promote_types(query.dtype, torch.float32) if short else query.dtype


def _straight(states: Tensor, dtype: torch.dtype, count: int) -> Tensor:
    """[B, heads, T, d] → [count, …, d], copied once at most."""
    states = states.to(dtype, memory_format=torch.contiguous_format)
    return states.reshape(count, -1, states.shape[-1])


def _product(
    first: Tensor, second: Tensor, scale: float, room: Tensor | None = None, *, onto: bool = False
) -> Tensor:
    """first [N, a, b] · second [N, b, c] · scale, scaled on the way; onto what is in the room."""
    if room is None:
        room = first.new_empty(len(first), first.shape[1], second.shape[2])
    return torch.baddbmm(room, first, second, beta=int(onto), alpha=scale, out=room)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax of the rows, which it may overwrite, in their dtype."""
    if scores.shape[-1] >= SHORT_ROWS:
        return torch.softmax(scores, dim=-1)  # a lower precision's is float32 within
    made = scores.to(torch.promote_types(scores.dtype, torch.float32))
    made.sub_(made.amax(dim=-1, keepdim=True)).exp_()
    return made.div_(made.sum(dim=-1, keepdim=True)).to(scores.dtype)


def _softmax_backward(gradient: Tensor, weights: Tensor) -> Tensor:
    """Gradient by the scores, in the weights' dtype: weights * (gradient - its mean under them)."""
    if weights.shape[-1] >= SHORT_ROWS:
        return torch._softmax_backward_data(gradient, weights, -1, weights.dtype)
    wide = torch.promote_types(weights.dtype, torch.float32)
    exact = weights.to(wide)
    made = gradient.to(wide) * exact
    made.addcmul_(exact, made.sum(dim=-1, keepdim=True), value=-1.0)
    return made.to(weights.dtype)


def _masked(weights: Tensor, kept: Tensor | None, scale: float) -> Tensor:
    """Dropout by a mask drawn before."""
    return weights if kept is None else kept.to(weights.dtype).mul_(weights).mul_(scale)


def _fill(room: Tensor, first: Tensor, second: Tensor, scale: float = 1.0) -> None:
    """Put the product of [N, a, b] and [N, b, c] into room [B, H, T, c]."""
    if room.is_contiguous() and room.dtype == first.dtype:
        _product(first, second, scale, room.view(*first.shape[:2], second.shape[2]))
    else:
        room.copy_(_product(first, second, scale).view(room.shape))
