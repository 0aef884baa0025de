"""Attention head by head, forward and backward, by C++ where it is loaded; else as `packed`.

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value].

The scores of some queries of a head stay in the processor's cache. For the backward pass, which
makes them again, two numbers a query are kept, and of dropout a seed.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.nn.dropout import draw_seed
from regard.nn.kernels.layouts import find_layouts, make_rooms
from regard.nn.kernels.packed import packed
from regard.nn.masks import MaskForm
from regard.nn.native import operators


def short(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskForm,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Scores, softmax and mix in one go; see `regard.nn.kernels.Kernel`."""
    if bias is not None or not operators.serve_training(query, key, value):
        return packed(query, key, value, mask=mask, scale=scale, dropout=dropout, bias=bias)
    mixed = _Short.apply(query, key, value, mask.allowed, scale, dropout)  # type: ignore[no-untyped-call]
    return cast(Tensor, mixed)


class _Short(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        allowed: Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        q, k, v = (_in_rows(one) for one in (query, key, value))
        if allowed is not None and allowed.stride(-1) > 1:
            allowed = allowed.contiguous()
        ctx.settings = {"scale": scale, "p": dropout, "seed": draw_seed() if dropout > 0.0 else 0}
        mixed, levels = operators.short_attention(q, k, v, allowed, **ctx.settings)
        ctx.save_for_backward(q, k, v, allowed, levels)
        ctx.layouts = find_layouts(query, key, value)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, allowed, levels = ctx.saved_tensors
        rooms = make_rooms(gradient.dtype, ctx.layouts)
        inputs = query, key, value
        operators.short_attention_backward(
            _in_rows(gradient), inputs, allowed, levels, rooms, **ctx.settings
        )
        return *rooms, None, None, None


def _in_rows(states: Tensor) -> Tensor:
    """The same with each row in one piece."""
    return states if states.stride(-1) == 1 else states.contiguous()
