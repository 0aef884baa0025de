"""Heads: what stands on the states and gives answers.

Shapes: states [B, T, d_model] or [R, d_model], logits [..., V], weight [V, d_model].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.nn import backend


@dataclass(frozen=True)
class HeadSpec:
    """Settings of a language-model head.

    Attributes:
        bias: whether each token has one.
    """

    bias: bool = False


class LanguageModelHead(nn.Module):
    """Logits over the vocabulary: states · weightᵀ + bias (paper, section 3.4).

    ``weight`` may be an embedding's own matrix (tied). Its own is N(0, 1/d_model) at the start,
    as a tied one is; the bias starts at zero.
    """

    def __init__(
        self, d_model: int, vocab_size: int, *, spec: HeadSpec, tied_to: nn.Parameter | None = None
    ) -> None:
        super().__init__()
        if tied_to is None:
            self.weight = nn.Parameter(torch.empty(vocab_size, d_model))
            nn.init.normal_(self.weight, std=d_model**-0.5)
        else:
            self.weight = tied_to
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if spec.bias else None

    def forward(self, states: Tensor) -> Tensor:
        """[..., d_model] → [..., V]."""
        return backend.linear(states, self.weight, self.bias)
