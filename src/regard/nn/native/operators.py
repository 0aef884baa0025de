"""What the operators in C++ do; to be called where `regard.nn.native.loaded` says so.

Shapes: states float32 [R, in], weight float32 [out, in], codes int8 [out, in], scales and bias
float32 [out], sums int32 [out] (Σ codes).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def pack(weight: Tensor) -> Tensor:
    """A weight in the order in which `linear` reads it."""
    return cast(Tensor, torch.ops.regard.pack.default(weight))


def linear(states: Tensor, weight: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """states · weightᵀ + bias, [R, out]."""
    return cast(Tensor, torch.ops.regard.linear.default(states, weight, packed, bias))


def int8_weight(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A weight as `int8_linear` reads it: codes [out / 64, in / 4, 4, 16, 4], scales and sums.

    They are those of `regard.nn.quantized.quantize_rows`.
    """
    return cast(tuple[Tensor, Tensor, Tensor], torch.ops.regard.int8_weight.default(weight))


def int8_linear(
    states: Tensor, packed: Tensor, scales: Tensor, sums: Tensor, bias: Tensor | None
) -> Tensor:
    """states · (codes · scales)ᵀ + bias, [R, out], by products of integers."""
    made = torch.ops.regard.int8_linear.default(states, packed, scales, sums, bias)
    return cast(Tensor, made)


def attend(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, scale: float
) -> Tensor:
    """Attention of few queries.

    Args:
        query, key, value: float32 [B, H, Tq, d_key], [B, Hkv, Tk, d_key], [B, Hkv, Tk, d_value].
        allowed: bool [B or 1, 1, Tq or 1, Tk or 1].
        scale: of the scores.

    Returns:
        [B, H, Tq, d_value]; zeros for a query that may see nothing.
    """
    mixed = torch.ops.regard.attend.default(query, key, value, allowed, scale)
    return cast(Tensor, mixed).transpose(1, 2)


def best_logprobs(logits: Tensor, k: int, barred: Tensor) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each row [R, V] that are not barred; spends the logits.

    Returns:
        Log-probabilities [R, k], largest first, and tokens [R, k].
    """
    found = torch.ops.regard.best_logprobs.default(logits, k, barred)
    return cast(tuple[Tensor, Tensor], found)
