"""Norms over the features of each position.

Shapes: states [B, T, d_model].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard import registry
from regard.spec import Known, Within


@dataclass(frozen=True)
class NormSpec:
    """Settings of a norm.

    Attributes:
        kind: ``layernorm``.
        eps: added to the variance.
        bias: whether a shift is learned beside the scale.
    """

    kind: Annotated[str, Known("norms")] = "layernorm"
    eps: Annotated[float, Within(0)] = 1e-5
    bias: bool = True


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the features, then scale and shift (Ba et al., 2016).

    Statistics are taken in float32 or wider, whatever the states' dtype. Scale 1 and shift 0 at
    the start.
    """

    def __init__(self, spec: NormSpec, d_model: int) -> None:
        super().__init__()
        self.eps = spec.eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if spec.bias else None

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, d_model] → [B, T, d_model]."""
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


def make_norm(spec: NormSpec, d_model: int) -> nn.Module:
    """The norm that ``spec`` asks for."""
    return cast(nn.Module, registry.kind("norms", spec.kind)(spec, d_model))
