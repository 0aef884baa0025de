"""Attention by batched matrix products with a softmax between: fastest on CPUs at sentence lengths.

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value].
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from regard.nn.kernels.dense import share_heads
from regard.nn.masks import MaskForm


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
        weights = F.dropout(weights, dropout)
    return weights @ value  # [B, H, Tq, d_value]
