"""ALiBi, attention with linear biases (Press et al., "Train Short, Test Long", 2022, section 3).

Shapes: positions [B or 1, Tq] and [B or 1, Tk], score bias [B or 1, H, Tq, Tk].
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.nn.positions.scheme import PositionScheme


class Alibi(PositionScheme):
    """A penalty on the scores that grows with the distance, faster in some heads than in others.

    The paper's form under a causal mask; where a query sees both sides, the distance counts in
    either direction (the symmetric form that its authors name for encoders).
    """

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """-slope * \\|query - key\\|."""
        distances = (queries[:, None, :, None] - keys[:, None, None, :]).abs()
        own = torch.tensor(slopes(self.size.num_heads), device=keys.device)
        return distances * -own[:, None, None]  # [B or 1, H, Tq, Tk]


def slopes(num_heads: int) -> list[float]:
    """2^(-8/H), 2^(-16/H), … 2^-8 for H heads, a power of two.

    For other H, as in the authors' code: those of the power of two below it, then every other one
    of the power of two above it.
    """
    below = 1 << (num_heads.bit_length() - 1)
    ratio = 2.0 ** (-8.0 / below)
    found = [ratio ** (head + 1) for head in range(below)]
    finer = ratio**0.5
    return found + [finer ** (2 * head + 1) for head in range(num_heads - below)]
