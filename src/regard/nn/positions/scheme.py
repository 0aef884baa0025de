"""The doors by which positions enter a Transformer.

Shapes: positions [B or 1, T, …] (integers), states [B, T, d_model], heads [B, H, T, d_key],
score bias [B or 1, H or 1, Tq, Tk], relation [B or 1, 1, Tq, Tk].

A scheme is one class with the doors that it uses: *added* to the states, *turned* into queries
and keys, or on the scores: as a *bias* of all layers, or by *tables* of each layer, which may add
to the mixed values too. Positions are explicit integers, so packing, left padding
and caches need no special case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regard.spec import KindSpec


@dataclass(frozen=True)
class PositionSpec(KindSpec):
    """Which scheme, with its options: ``"learned"`` or ``{kind = "sinusoidal", layout = …}``."""

    group = "positions"
    kind: str = "sinusoidal"


@dataclass(frozen=True)
class GridSize:
    """Tokens that stand on a grid, row by row, between some that stand outside of it.

    Attributes:
        shape: the grid's length along each axis: frames of a clip first, then rows, then columns.
        before, after: tokens outside, such as a class token.
    """

    shape: tuple[int, ...]
    before: int = 0
    after: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.before + math.prod(self.shape) + self.after


@dataclass(frozen=True)
class SchemeSize:
    """What a stack tells its scheme: widths, heads, layers and the longest text, or the grid."""

    d_model: int
    d_key: int
    num_heads: int
    max_positions: int
    num_layers: int = 1
    grid: GridSize | None = None


@dataclass(frozen=True)
class NoOptions:
    """A scheme without settings."""


class PositionScheme(nn.Module):
    """Base of the schemes: every door is closed until a kind opens it."""

    Options: type = NoOptions

    def __init__(self, size: SchemeSize, options: Any) -> None:
        super().__init__()
        self.size = size
        self.options = options

    def places(self, grid: GridSize, device: torch.device) -> Tensor:
        """Positions of tokens on a grid, as the doors read them: by default [1, T], in order."""
        return torch.arange(grid.tokens, device=device)[None]

    def add(self, states: Tensor, positions: Tensor, layer: int) -> Tensor:
        """Door one: states [B, T, d_model] with positions [B or 1, T] added, before a layer."""
        return states

    def prepare(self, positions: Tensor, dtype: torch.dtype) -> Any:
        """Door two, once a stack: what `turn` needs for tokens at these positions [B or 1, T].

        Args:
            positions: of the new tokens.
            dtype: of the states.
        """
        return None

    def turn(self, heads: Tensor, prepared: Any) -> Tensor:
        """Door two: queries or new keys [B, H, T, d_key], turned by their positions."""
        return heads

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Door three, once a stack: from positions [B or 1, Tq], [B or 1, Tk] to a score bias."""
        return None

    def tables(self, d_key: int, d_value: int) -> tuple[nn.Module | None, nn.Module | None]:
        """Door three, a layer's own modules, called with what `relate` gave.

        Returns:
            (query [B, H, Tq, d_key], relation) -> a term of the scores [B, H, Tq, Tk];
            (weights [B, H, Tq, Tk], relation) -> a term of the mixture [B, H, Tq, d_value].
            A layer with the second never leaves its weights to a kernel: it takes the dense way.
        """
        return None, None

    def relate(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Door three, once a stack: what `tables` need of the positions of queries and keys."""
        return None


class NoPositions(PositionScheme):
    """A set of tokens without order."""
