"""Residual connections (paper, sections 3.1 and 5.4).

Shapes: states [B, T, d_model].
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from regard.nn.dropout import Dropout
from regard.nn.norms import NormSpec, make_norm, norm_sum

NormPlacement = Literal["post", "pre"]


class Residual(nn.Module):
    """x + Dropout(sublayer(x)) with its norm; the only place that knows where the norm goes.

    ``post``, as the paper: norm(x + dropout(f(x))). ``pre`` (Wang et al., 2019):
    x + dropout(f(norm(x))); the stack then ends in a norm of its own.
    """

    def __init__(
        self,
        sublayer: nn.Module,
        d_model: int,
        *,
        norm: NormSpec,
        placement: NormPlacement,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sublayer = sublayer
        self.norm = make_norm(norm, d_model)
        self.dropout = Dropout(dropout)
        self.placement = placement

    def forward(self, states: Tensor, *inputs: Any) -> Tensor:
        """[B, T, d_model] → the same; ``inputs`` go to the sublayer as they are."""
        if self.placement == "pre":
            return self.dropout.add(states, self.sublayer(self.norm(states), *inputs))
        return norm_sum(self.norm, self.dropout, states, self.sublayer(states, *inputs))
