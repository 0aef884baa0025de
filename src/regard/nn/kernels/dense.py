"""Attention as the paper writes it: softmax(QKᵀ/√d_k) V (section 3.2.1, equation 1).

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value],
scores and weights [B, H, Tq, Tk].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.nn.masks import MaskForm


def attention_weights(
    query: Tensor, key: Tensor, *, mask: MaskForm, scale: float, bias: Tensor | None = None
) -> Tensor:
    """How much each query takes from each key.

    Returns:
        [B, H, Tq, Tk]; each row sums to 1, or is zero where the query may see nothing.
    """
    scores = query @ share_heads(key, query.shape[1]).transpose(-2, -1) * scale  # [B, H, Tq, Tk]
    if bias is not None:
        scores = scores + bias
    if mask.allowed is not None:
        scores = scores.masked_fill(~mask.allowed, torch.finfo(scores.dtype).min / 2)
    statistics = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=statistics).to(query.dtype)
    if mask.blind is not None:
        weights = weights.masked_fill(mask.blind, 0.0)
    return weights


def share_heads(states: Tensor, num_heads: int) -> Tensor:
    """Keys or values [B, Hkv, T, d] as every query head sees them: [B, H, T, d]."""
    groups = num_heads // states.shape[1]
    return states if groups == 1 else states.repeat_interleave(groups, dim=1)


def dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskForm,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """The formula; see `regard.nn.kernels.Kernel`."""
    weights = attention_weights(query, key, mask=mask, scale=scale, bias=bias)
    weights = F.dropout(weights, dropout) if dropout > 0.0 else weights
    return weights @ share_heads(value, query.shape[1])  # [B, H, Tq, d_value]
