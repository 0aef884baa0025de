"""Position-wise feed-forward networks (paper, section 3.3).

Shapes: states [B, T, d_model], hidden [B, T, d_ff].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from torch import Tensor, nn
from torch.nn import functional as F

from regard import registry
from regard.nn.dropout import Dropout
from regard.nn.linear import Linear, SplitLinear
from regard.spec import Fraction, Known, Positive

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FeedForwardSpec:
    """Settings of a feed-forward network.

    Attributes:
        kind: ``plain`` (two linear maps) or ``gated`` (three; with ``silu``, SwiGLU).
        d_ff: the hidden width.
        activation: ``relu`` (paper), ``gelu``, ``gelu_tanh`` or ``silu``.
        dropout: of the hidden states.
        bias: whether the linear maps have one.
    """

    kind: Annotated[str, Known("feed_forwards")] = "plain"
    d_ff: Positive = 2048
    activation: Annotated[str, Known("activations")] = "relu"
    dropout: Fraction = 0.0
    bias: bool = True


def relu(hidden: Tensor) -> Tensor:
    """max(0, x)."""
    return F.relu(hidden)


def gelu(hidden: Tensor) -> Tensor:
    """x Φ(x) (Hendrycks & Gimpel, 2016)."""
    return F.gelu(hidden)


def gelu_tanh(hidden: Tensor) -> Tensor:
    """GELU by its tanh approximation, as GPT-2 computes it."""
    return F.gelu(hidden, approximate="tanh")


def silu(hidden: Tensor) -> Tensor:
    """x σ(x), also called swish."""
    return F.silu(hidden)


class FeedForward(nn.Module):
    """FFN(x) = activation(x W₁ + b₁) W₂ + b₂ (paper, equation 2); Glorot-uniform weights."""

    def __init__(self, spec: FeedForwardSpec, d_model: int) -> None:
        super().__init__()
        self.expand = Linear(d_model, spec.d_ff, bias=spec.bias)
        self.contract = Linear(spec.d_ff, d_model, bias=spec.bias)
        self.dropout = Dropout(spec.dropout)
        self.activation = cast(Activation, registry.kind("activations", spec.activation))

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, d_model] → [B, T, d_model], each position by itself."""
        hidden = self.activation(self.expand(states))  # [B, T, d_ff]
        return cast(Tensor, self.contract(self.dropout(hidden)))


class GatedFeedForward(nn.Module):
    """(activation(x W) ⊙ x V) W₂ (Shazeer, "GLU Variants Improve Transformer", 2020, equation 5).

    ``gate`` is W, ``up`` is V, made by one product; Glorot-uniform weights.
    """

    def __init__(self, spec: FeedForwardSpec, d_model: int) -> None:
        super().__init__()
        widths = {"gate": spec.d_ff, "up": spec.d_ff}
        self.expand = SplitLinear(d_model, widths, bias=spec.bias)
        self.contract = Linear(spec.d_ff, d_model, bias=spec.bias)
        self.dropout = Dropout(spec.dropout)
        self.activation = cast(Activation, registry.kind("activations", spec.activation))

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, d_model] → [B, T, d_model], each position by itself."""
        gate, up = self.expand(states)  # [B, T, d_ff] each
        return cast(Tensor, self.contract(self.dropout(self.activation(gate) * up)))
