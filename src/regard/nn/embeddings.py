"""Token embeddings (paper, section 3.4).

Shapes: ids [B, T], states [B, T, d_model], weight [V, d_model].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.spec import Fraction


@dataclass(frozen=True)
class EmbeddingSpec:
    """Settings of the embeddings.

    Attributes:
        scale: whether vectors are multiplied by √d_model, as the paper does.
        dropout: of the sum of embeddings and positions.
    """

    scale: bool = True
    dropout: Fraction = 0.1


class TokenEmbedding(nn.Module):
    """A vector for each token id; N(0, 1/d_model) at the start, as in the reference code.

    With scaling, states then start with variance 1, and a head tied to the same matrix gives
    logits of variance about 1.

    Attributes:
        looks_up: rows are taken from it; optimizers treat such weights apart.
    """

    looks_up = True

    def __init__(self, vocab_size: int, d_model: int, *, scale: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))
        nn.init.normal_(self.weight, std=d_model**-0.5)
        self.scale = math.sqrt(d_model) if scale else 1.0

    def forward(self, ids: Tensor) -> Tensor:
        """[B, T] → [B, T, d_model]."""
        states = F.embedding(ids, self.weight)
        return states * self.scale if self.scale != 1.0 else states
