"""Dropout (Srivastava et al., 2014), with masks that are cheap on a CPU.

Shapes: states of any shape.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zero each element with probability ``p`` in training and scale the others by 1/(1 - p).

    Args:
        p: probability of a zero, 0 ≤ p < 1.

    Raises:
        ValueError: for another p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a dropout probability lies in [0, 1), not at {p}")
        self.p = p

    def forward(self, states: Tensor) -> Tensor:
        """Any shape → the same."""
        return F.dropout(states, self.p) if self.training and self.p > 0.0 else states

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"
