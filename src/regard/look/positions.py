"""What a position scheme tells a model: its vectors, and how alike two positions are.

Shapes: table [N, d], similarity [N, N], heads [H, N, N], by_offset [2N - 1].

A scheme has three doors (`regard.nn.positions.scheme`). Vectors added to the states are compared
by their cosine; turned queries and keys by the dot product of one and the same unit vector at two
positions; a bias on the scores is shown as it is: of each head, and as their mean.

Where the tokens are patches of a picture, each has a map: how alike it is to every place of the
picture (Dosovitskiy et al., 2020, figure 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from regard.errors import RegardError
from regard.nn.positions.scheme import PositionScheme

Door = Literal["added", "turned", "bias"]

MAPS = 10
"""Rows and columns of maps at most; of a larger grid some from everywhere."""


@dataclass(frozen=True, eq=False)
class Positions:
    """A stack's positions, ready to be drawn.

    Attributes:
        stack: its name.
        kind: the scheme's class.
        door: how it enters.
        table: what is added to the states [N, d]; None for the other doors.
        similarity: of each pair of positions [N, N].
        heads: of a bias, each head's own [H, N, N]; None for the other doors.
        grid: rows and columns of patches, where a picture is read; of a clip the middle frame's.
        first: the token that is the first of these patches.
    """

    stack: str
    kind: str
    door: Door
    table: Tensor | None
    similarity: Tensor
    heads: Tensor | None = None
    grid: tuple[int, int] | None = None
    first: int = 0

    @property
    def by_offset(self) -> Tensor:
        """Mean similarity of the pairs (i, i + k), for k = 1 - N … N - 1: [2N - 1]."""
        return _by_offset(self.similarity)

    @property
    def by_head(self) -> Tensor | None:
        """The same of each head's bias [H, 2N - 1]; None for the other doors."""
        return None if self.heads is None else _by_offset(self.heads)

    @property
    def by_axis(self) -> tuple[Tensor, Tensor]:
        """The same of patches in one column [2 rows - 1], and in one row [2 columns - 1]."""
        held = self._patches
        down, across = held.diagonal(dim1=1, dim2=3), held.diagonal(dim1=0, dim2=2)
        return _by_offset(down.mean(dim=-1)), _by_offset(across.mean(dim=-1))

    @property
    def maps(self) -> Tensor:
        """Of some patches from everywhere, the similarity to all [r, c, rows, columns]."""
        held = self._patches
        rows, columns = (
            torch.linspace(0, count - 1, min(count, MAPS)).round().long()
            for count in held.shape[:2]
        )
        return held[rows][:, columns]

    @property
    def _patches(self) -> Tensor:
        """Similarity of each pair of patches [rows, columns, rows, columns]."""
        assert self.grid is not None
        rows, columns = self.grid
        inside = slice(self.first, self.first + rows * columns)
        return self.similarity[inside, inside].reshape(rows, columns, rows, columns)


def _by_offset(values: Tensor) -> Tensor:
    """Mean of each diagonal: [..., N, N] to [..., 2N - 1]."""
    count = values.shape[-1]
    means = [values.diagonal(k, -2, -1).mean(dim=-1) for k in range(1 - count, count)]
    return torch.stack(means, dim=-1)


def positions(model: nn.Module, *, length: int = 64) -> list[Positions]:
    """The position schemes of a model's stacks.

    Stacks whose schemes give the same numbers are one entry, its name joined by ``+``.

    Args:
        model: whose stacks.
        length: how many positions of a text; as many more as the scheme tells apart. Of a picture
            all are meant.

    Raises:
        RegardError: when no stack knows positions, or only such as answer to queries.
    """
    found: list[Positions] = []
    for name, module in model.named_modules():
        if isinstance(module, PositionScheme):
            stack = name.removesuffix(".positions").split(".")[-1] or "model"
            one = _describe(stack, module, length)
            if one is not None:
                found.append(one)
    if not found:
        raise RegardError(
            "this model knows no positions without a text, so there is nothing to draw",
            hint="tables of distances, such as Shaw's, answer to queries",
        )
    return _joined(found)


@torch.no_grad()
def _describe(stack: str, scheme: PositionScheme, length: int) -> Positions | None:
    """What a scheme does to positions; None where it does nothing without a text."""
    weight = next(iter(scheme.parameters()), next(iter(scheme.buffers()), torch.zeros(())))
    at = _places(scheme, length, weight.device)  # [1, N]
    base = _on_grid(Positions(stack, type(scheme).__name__, "added", None, weight), scheme)
    states = weight.new_zeros(1, at.shape[1], scheme.size.d_model)
    table = scheme.add(states, at, 0)[0].float().cpu()
    if bool(table.any()):
        unit = torch.nn.functional.normalize(table, dim=-1)
        return replace(base, table=table, similarity=unit @ unit.T)
    bias = scheme.bias(at, at)
    if bias is not None:
        heads = bias[0].float().cpu()
        return replace(base, door="bias", similarity=heads.mean(dim=0), heads=heads)
    width = scheme.size.d_key
    unit = weight.new_full((1, 1, at.shape[1], width), width**-0.5)
    turned = scheme.turn(unit, scheme.prepare(at, unit.dtype))[0, 0].float().cpu()  # [N, d_key]
    if torch.equal(turned, unit[0, 0].float().cpu()):
        return None
    return replace(base, door="turned", similarity=turned @ turned.T)


def _places(scheme: PositionScheme, length: int, device: torch.device) -> Tensor:
    """Positions to look at: of the grid all, of a text the first few."""
    if scheme.size.grid is not None:
        return scheme.places(scheme.size.grid, device)
    furthest = int(getattr(scheme.options, "max_distance", 0))  # beyond it all are alike
    return torch.arange(min(max(length, furthest + 1), scheme.size.max_positions), device=device)[
        None
    ]


def _on_grid(one: Positions, scheme: PositionScheme) -> Positions:
    grid = scheme.size.grid
    if grid is None or len(grid.shape) < 2:
        return one
    rows, columns = grid.shape[-2:]
    frames = math.prod(grid.shape[:-2])
    return replace(one, grid=(rows, columns), first=grid.before + frames // 2 * rows * columns)


def _joined(found: list[Positions]) -> list[Positions]:
    joined: list[Positions] = []
    for one in found:
        for index, other in enumerate(joined):
            if other.door == one.door and torch.equal(other.similarity, one.similarity):
                joined[index] = replace(other, stack=f"{other.stack} + {one.stack}")
                break
        else:
            joined.append(one)
    return joined
