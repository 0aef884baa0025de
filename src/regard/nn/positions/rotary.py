"""Rotary positions (Su et al., "RoFormer", 2021, section 3.2), turned into queries and keys.

Shapes: positions [B or 1, T], heads [B, H, T, d_key], cosines and sines [B or 1, 1, T, d_key / 2].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from regard.errors import RecipeError
from regard.nn.positions.scheme import PositionScheme, SchemeSize
from regard.spec import Positive, Within

Turning = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RotaryOptions:
    """Settings of the rotation.

    Attributes:
        base: the longest wavelength over 2π.
        layout: which features make a pair: ``halves`` (i and i + d_key/2, as Llama's weights in
            the field's form have it) or ``interleaved`` (2i and 2i + 1, the paper's).
        scaling: for texts longer than those trained on: ``none``, ``linear`` (all angles over
            ``factor``; Chen et al., 2023) or ``llama3`` (long waves alone over ``factor``).
        factor: of the scaling.
        low_freq_factor, high_freq_factor: llama3: waves longer than original_max_positions /
            low_freq_factor are scaled, those shorter than over high_freq_factor are not, and
            those between by degrees.
        original_max_positions: llama3: tokens of the longest text before scaling.
    """

    base: Annotated[float, Within(1)] = 10_000.0
    layout: Literal["halves", "interleaved"] = "halves"
    scaling: Literal["none", "linear", "llama3"] = "none"
    factor: Annotated[float, Within(1)] = 8.0
    low_freq_factor: Annotated[float, Within(0)] = 1.0
    high_freq_factor: Annotated[float, Within(0)] = 4.0
    original_max_positions: Positive = 8192


class Rotary(PositionScheme):
    """Pairs of features turned by an angle that grows with the position.

    The score of a turned query and key depends on the difference of their positions alone.
    """

    Options = RotaryOptions

    def __init__(self, size: SchemeSize, options: RotaryOptions) -> None:
        super().__init__(size, options)
        if size.d_key % 2:
            raise RecipeError(
                f"rotary positions turn pairs: d_key = {size.d_key} is odd",
                where="layer.attention.d_key",
            )
        self._rates = rates(size.d_key, options)

    def prepare(self, positions: Tensor, dtype: torch.dtype) -> Turning:
        """Cosines and sines of the angles, float32 or wider."""
        own = torch.tensor(self._rates, dtype=torch.float64, device=positions.device)
        angles = (positions[..., None] * own)[:, None]  # [B or 1, 1, T, d_key / 2]
        wide = torch.promote_types(dtype, torch.float32)
        return angles.cos().to(wide), angles.sin().to(wide)

    def turn(self, heads: Tensor, prepared: Turning) -> Tensor:
        """(x, y) → (x cos - y sin, y cos + x sin) for each pair."""
        cosines, sines = prepared
        if self.options.layout == "halves":
            x, y = heads.chunk(2, dim=-1)  # [B, H, T, d_key / 2] each
            turned = torch.cat([x * cosines - y * sines, y * cosines + x * sines], dim=-1)
        else:
            x, y = heads[..., 0::2], heads[..., 1::2]
            pairs = [x * cosines - y * sines, y * cosines + x * sines]
            turned = torch.stack(pairs, dim=-1).flatten(-2)
        return turned.to(heads.dtype)


def rates(d_key: int, options: RotaryOptions) -> list[float]:
    """What each pair's angle grows by from a position to the next, [d_key / 2]."""
    plain = [options.base ** (-2 * pair / d_key) for pair in range(d_key // 2)]
    if options.scaling == "linear":
        return [rate / options.factor for rate in plain]
    if options.scaling == "llama3":
        return [_llama3(rate, options) for rate in plain]
    return plain


def _llama3(rate: float, options: RotaryOptions) -> float:
    """Llama 3.1's scaling, by how often the wave fits into the texts trained on."""
    low, high = options.low_freq_factor, options.high_freq_factor
    waves = options.original_max_positions * rate / (2 * math.pi)
    kept = min(max((waves - low) / (high - low), 0.0), 1.0) if high > low else float(waves >= low)
    return rate * (kept + (1.0 - kept) / options.factor)
