"""What the operators in C++ do; to be called where `regard.nn.native.loaded` says so.

Shapes, of linear maps: states float32 [R, in], weight float32 [out, in], codes int8 [out, in],
scales and bias float32 [out], sums int32 [out] (Σ codes).

Those of training take float32 and bfloat16, and sum in float32. What dropout drops is a function
of a seed and of an element's place: the backward pass needs no mask.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from regard.nn import native


def serve_training(*tensors: Tensor | None) -> bool:
    """Whether the operators of training are there, and take these tensors, all of one kind."""
    if torch.compiler.is_compiling() or not native.loaded():
        return False
    given = [one for one in tensors if one is not None]
    return (
        all(type(one) in (Tensor, nn.Parameter) for one in given)  # no shards
        and all(one.device.type == "cpu" and one.dtype == given[0].dtype for one in given)
        and given[0].dtype in (torch.float32, torch.bfloat16)
    )


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


def drop(states: Tensor, residual: Tensor | None, p: float, seed: int) -> Tensor:
    """Dropout of states of any shape in one piece, onto the residual if there is one."""
    return cast(Tensor, torch.ops.regard.drop.default(states, residual, p, seed))


def norm(
    states: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    centered: bool,
    eps: float,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of residual + dropout(states), or of the states alone; [..., d] in one piece.

    Args:
        weight, bias: float32 [d].
        centered: layer norm; else RMS norm.

    Returns:
        What came out; what was normed; float32 [N, 2], its means and 1 / deviations.
    """
    made = torch.ops.regard.norm.default(states, residual, weight, bias, centered, eps, p, seed)
    return cast(tuple[Tensor, Tensor, Tensor], made)


def norm_backward(
    gradient: Tensor,
    normed: Tensor,
    statistics: Tensor,
    weight: Tensor,
    *,
    centered: bool,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `norm` by residual, states, weight and bias."""
    made = torch.ops.regard.norm_backward.default(
        gradient, normed, statistics, weight, centered, p, seed
    )
    return cast(tuple[Tensor, Tensor, Tensor, Tensor], made)


def short_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor | None,
    *,
    scale: float,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Attention with dropout of its weights.

    Args:
        query, key, value: [B, H, Tq, d_key], [B, Hkv, Tk, d_key], [B, Hkv, Tk, d_value], each row
            in one piece.
        allowed: bool [B or 1, 1, Tq or 1, Tk or 1], each row in one piece.

    Returns:
        [B, H, Tq, d_value], zeros for a query that may see nothing; float32 [B, H, 2, Tq] for the
        backward pass.
    """
    made = torch.ops.regard.short_attention.default(query, key, value, allowed, scale, p, seed)
    return cast(tuple[Tensor, Tensor], made)


def short_attention_backward(
    gradient: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    allowed: Tensor | None,
    levels: Tensor,
    rooms: list[Tensor],
    *,
    scale: float,
    p: float,
    seed: int,
) -> None:
    """Fill the rooms of the gradients by queries, keys and values, of their shapes."""
    torch.ops.regard.short_attention_backward.default(
        gradient, *inputs, allowed, levels, scale, p, seed, *rooms
    )


def slopes(logits: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Logits [n, V] become softmax - share · one-hot(labels), the slope of a cross-entropy.

    Returns:
        log Σ e^logit and the labels' logits, float32 [n].
    """
    made = torch.ops.regard.slopes.default(logits, labels, share)
    return cast(tuple[Tensor, Tensor], made)
