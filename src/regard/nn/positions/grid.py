"""Learned positions on a grid, such as a picture's patches (Dosovitskiy et al., 2020, section 3.2).

Shapes: positions [B or 1, T] (rows of the table) or [B or 1, T, axes, 2], states [B, T, d_model],
table [tokens, d_model]; K = 4^axes.

A grid of the size trained on looks up its rows. On another grid a token's position is its place and
the length of the grid along each axis, and the table is interpolated there (bicubic, as
`torch.nn.functional.interpolate` does it). So a token knows its position by itself: grids of
several sizes may share a batch, and padding moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.nn.positions.scheme import GridSize, PositionScheme, SchemeSize
from regard.nn.positions.sinusoidal import sinusoids

STD = 0.02
"""Of the tables at the start (the paper's code)."""

STEEPNESS = -0.75
"""Of the cubic kernel (Keys, 1981); torch's and OpenCV's choice."""


@dataclass(frozen=True)
class GridOptions:
    """Settings of positions on a grid.

    Attributes:
        every_layer: whether each further layer adds a table of its own to its input (Fang et al.,
            2021, "YOLOS").
        start: where the first table begins: ``random``, or ``sinusoidal``, at waves along each axis
            (fixed in Beyer et al., 2022), so that neighbors are alike from the first step.
    """

    every_layer: bool = False
    start: Literal["random", "sinusoidal"] = "random"


class Grid(PositionScheme):
    """A vector for each place of a grid, and for each token outside of it; a text is one axis."""

    Options = GridOptions
    looks_up = True

    def __init__(self, size: SchemeSize, options: GridOptions) -> None:
        super().__init__(size, options)
        self.grid = size.grid or GridSize((size.max_positions,))
        self.weight = nn.Parameter(torch.empty(self.grid.tokens, size.d_model))
        more = (size.num_layers - 1, *self.weight.shape)
        self.further = nn.Parameter(torch.empty(more)) if options.every_layer else None
        for table in self.parameters():
            if table.numel():  # one layer has no further ones
                nn.init.normal_(table, std=STD)
        if options.start == "sinusoidal":
            inside = slice(self.grid.before, self.grid.tokens - self.grid.after)
            self.weight.data[inside] = waves(self.grid.shape, size.d_model)

    def places(self, grid: GridSize, device: torch.device) -> Tensor:
        """[1, T] on the grid trained on; else [1, T, axes, 2], see `_near`."""
        if grid == self.grid:
            return super().places(grid, device)
        axes = [torch.arange(length, device=device) for length in grid.shape]
        place = torch.cartesian_prod(*axes).view(-1, len(axes))  # [tokens of the grid, axes]
        length = torch.tensor(grid.shape, device=device).expand_as(place)
        outside = torch.zeros(grid.before + grid.after, len(axes), 2, dtype=torch.long)
        rows = [*range(grid.before), *range(self.grid.tokens - grid.after, self.grid.tokens)]
        outside[:, 0, 0] = torch.tensor(rows)
        outside, inside = outside.to(device), torch.stack([place, length], dim=-1)
        return torch.cat([outside[: grid.before], inside, outside[grid.before :]])[None]

    def add(self, states: Tensor, positions: Tensor, layer: int) -> Tensor:
        """States plus the vectors of their positions."""
        if layer > 0 and self.further is None:
            return states
        table = self.weight if layer == 0 or self.further is None else self.further[layer - 1]
        if positions.ndim == 2:
            return states + F.embedding(positions, table)
        rows, weights = self._near(positions)  # [B or 1, T, K] each
        mixed = F.embedding_bag(
            rows.flatten(0, 1),
            table,
            per_sample_weights=weights.flatten(0, 1).to(table.dtype),
            mode="sum",
        )  # [B or 1 * T, d_model]
        return states + mixed.view(*rows.shape[:2], -1)

    @torch.no_grad()
    def interpolated(self, theirs: Grid) -> dict[str, Tensor]:
        """These tables out of another grid's, by parameter; what that lacks stays as it is here.

        Nothing where the two have other widths or axes.
        """
        own, grid = self.grid, theirs.grid
        if self.weight.shape[1] != theirs.weight.shape[1] or len(own.shape) != len(grid.shape):
            return {}
        size = GridSize(own.shape, grid.before, grid.after)
        places = theirs.places(size, theirs.weight.device)
        nothing = theirs.weight.new_zeros(1, size.tokens, theirs.weight.shape[1])
        before, after = min(own.before, grid.before), min(own.after, grid.after)
        patches = own.tokens - own.before - own.after
        made = {name: table.detach().clone() for name, table in self.named_parameters()}
        tables = [made["weight"]]
        if self.further is not None and theirs.further is not None:
            tables += made["further"][: len(theirs.further)]
        else:
            made.pop("further", None)
        for layer, table in enumerate(tables):
            found = theirs.add(nothing, places, layer)[0]  # [tokens of size, d_model]
            inside = found[grid.before : grid.before + patches]
            table[:before] = found[:before]
            table[own.before : own.before + patches] = inside
            last = own.before + patches
            table[last : last + after] = found[grid.before + patches :][:after]
        return made

    def _near(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The rows around each position, and their weights in the mixture.

        Args:
            positions: [B or 1, T, axes, 2], place and length along each axis; where the length is
                zero, the first place is the row itself of a token outside of the grid.
        """
        place, length = positions.unbind(-1)  # [B or 1, T, axes]
        outside = length[..., :1] == 0  # [B or 1, T, 1]
        rows = torch.zeros_like(place[..., :1])  # [B or 1, T, 1], …, [B or 1, T, K]
        weights = torch.ones_like(rows, dtype=torch.float64)
        taps = torch.arange(-1, 3, device=place.device)
        for axis, trained in enumerate(self.grid.shape):
            scale = trained / length[..., axis, None].clamp_min(1).double()
            at = (place[..., axis, None] + 0.5) * scale - 0.5  # [B or 1, T, 1]
            first = at.floor()
            own = (first.long() + taps).clamp(0, trained - 1)  # [B or 1, T, 4]
            shares = _cubic(at - first - taps)  # [B or 1, T, 4]
            rows = (rows[..., None] * trained + own[..., None, :]).flatten(2)
            weights = (weights[..., None] * shares[..., None, :]).flatten(2)
        alone = (torch.arange(rows.shape[-1], device=rows.device) == 0).double()
        rows = torch.where(outside, place[..., :1], rows + self.grid.before)
        return rows, torch.where(outside, alone, weights)


def waves(shape: Sequence[int], d_model: int) -> Tensor:
    """Sinusoids of each axis side by side, for the places of a grid in the order of its tokens.

    Returns:
        [product of ``shape``, d_model]; what the width has beyond a sine and a cosine for each axis
        and wavelength is zero.
    """
    width = d_model // (2 * len(shape)) * 2
    each = [sinusoids(length, width) for length in shape]
    places = torch.cartesian_prod(*(torch.arange(length) for length in shape))
    rows = places.view(-1, len(shape)).unbind(1)
    found = torch.cat([table[row] for table, row in zip(each, rows, strict=True)], dim=1)
    return F.pad(found, (0, d_model - found.shape[1]))


def _cubic(distance: Tensor) -> Tensor:
    """Share of a neighbor at a distance of up to 2 (Keys, 1981)."""
    x, a = distance.abs(), STEEPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, far)
