"""Learned positions (paper, section 3.5 and table 3, row E), added to the states at the input.

Shapes: positions [B or 1, T], states [B, T, d_model], weight [max_positions, d_model].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from regard.nn.positions.scheme import PositionScheme, SchemeSize
from regard.spec import Within


@dataclass(frozen=True)
class LearnedOptions:
    """Settings of learned positions.

    Attributes:
        offset: rows of the table before position 0's (RoBERTa's has 2).
    """

    offset: Annotated[int, Within(0)] = 0


class Learned(PositionScheme):
    """A vector for each position; initialised as N(0, 1/d_model), like the embeddings."""

    Options = LearnedOptions
    looks_up = True

    def __init__(self, size: SchemeSize, options: LearnedOptions) -> None:
        super().__init__(size, options)
        rows = size.max_positions + options.offset
        self.weight = nn.Parameter(torch.empty(rows, size.d_model))
        nn.init.normal_(self.weight, std=size.d_model**-0.5)

    def add(self, states: Tensor, positions: Tensor, layer: int) -> Tensor:
        """States plus the vectors of their positions, at the input alone."""
        if layer > 0:
            return states
        return states + nn.functional.embedding(positions + self.options.offset, self.weight)
