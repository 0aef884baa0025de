"""Attention by torch's fused operator, which never holds the weights.

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value].
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from regard.nn.kernels.dense import share_heads
from regard.nn.masks import MaskForm


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskForm,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`; see `regard.nn.kernels.Kernel`."""
    causal = mask.kind == "causal" and bias is None
    table = None if causal else mask.additive(query.dtype)
    if bias is not None:
        bias = bias.to(query.dtype)
        table = bias if table is None else table + bias
    mixed = F.scaled_dot_product_attention(
        query,
        share_heads(key, query.shape[1]),
        share_heads(value, query.shape[1]),
        attn_mask=table,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
    )  # [B, H, Tq, d_value]
    if mask.blind is not None:
        mixed = mixed.masked_fill(mask.blind, 0.0)
    return mixed
