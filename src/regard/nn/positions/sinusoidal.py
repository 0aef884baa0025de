"""Sinusoidal positions (paper, section 3.5), added to the states at the input.

Shapes: positions [B or 1, T], states [B, T, d_model], table [max_positions, d_model].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from regard.nn.positions.scheme import PositionScheme, SchemeSize
from regard.spec import Within

Layout = Literal["interleaved", "halves"]


@dataclass(frozen=True)
class SinusoidalOptions:
    """Settings of the sinusoids.

    Attributes:
        layout: ``interleaved`` as the paper writes it (sine and cosine take turns), or
            ``halves`` as its reference code and Marian have it (all sines, then all cosines).
        base: the longest wavelength over 2π.
    """

    layout: Layout = "interleaved"
    base: Annotated[float, Within(1)] = 10_000.0


def sinusoids(
    length: int, d_model: int, *, layout: Layout = "interleaved", base: float = 10_000.0
) -> Tensor:
    """PE(pos, 2i) = sin(pos / base^(2i/d_model)), PE(pos, 2i+1) = cos(the same).

    Returns:
        float32 [length, d_model], computed in float64.
    """
    pairs = torch.arange(0, d_model, 2, dtype=torch.float64)
    rates = base ** (-pairs / d_model)  # [ceil(d_model / 2)]
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    sines, cosines = angles.sin(), angles.cos()[:, : d_model // 2]
    table = torch.empty(length, d_model, dtype=torch.float64)
    if layout == "interleaved":
        table[:, 0::2], table[:, 1::2] = sines, cosines
    else:
        table[:, : sines.shape[1]], table[:, sines.shape[1] :] = sines, cosines
    return table.float()


class Sinusoidal(PositionScheme):
    """The paper's fixed waves; a table of ``max_positions`` rows, not a parameter."""

    Options = SinusoidalOptions
    table: Tensor

    def __init__(self, size: SchemeSize, options: SinusoidalOptions) -> None:
        super().__init__(size, options)
        table = sinusoids(
            size.max_positions, size.d_model, layout=options.layout, base=options.base
        )
        self.register_buffer("table", table, persistent=False)

    def add(self, states: Tensor, positions: Tensor, layer: int) -> Tensor:
        """States plus their rows of the table, at the input alone."""
        return states + self.table[positions].to(states.dtype) if layer == 0 else states
