"""Attention of few queries, as in a step of decoding, by C++ where it is loaded; else as `fused`.

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value].
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.nn import native
from regard.nn.kernels.fused import fused
from regard.nn.masks import MaskForm
from regard.nn.native.operators import attend


def few(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskForm,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Scores, softmax and mix of one query after the other; see `regard.nn.kernels.Kernel`."""
    plain = query.dtype == torch.float32 and query.device.type == "cpu" and bias is None
    alike = len(query) == len(key) and not torch.is_grad_enabled() and dropout == 0.0
    if not (plain and alike and native.loaded()) or torch.compiler.is_compiling():
        return fused(query, key, value, mask=mask, scale=scale, dropout=dropout, bias=bias)
    return attend(query, key, value, mask.allowed, scale)
