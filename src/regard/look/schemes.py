"""Images of position schemes (`regard.look.positions`).

Shapes: maps [r, c, rows, columns].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from regard.look.heatmap import ACCENT, HIDDEN, SOFT, colors, new_figure
from regard.look.positions import Positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LOW, HIGH = 13.0, 3.9, 5.4
"""Inches: of the figure, and the height of a text's scheme and of a picture's."""

NAMED = 16
"""Heads up to which a legend names each."""


def draw(schemes: Sequence[Positions]) -> Figure:
    """For each scheme: its table or its heads, how alike positions are, and that by offset."""
    heights = [LOW if one.grid is None else HIGH for one in schemes]
    figure = new_figure(WIDTH, sum(heights))
    figure.set_layout_engine("constrained")
    parts = figure.subfigures(len(schemes), 1, squeeze=False, height_ratios=heights)[:, 0]
    for one, part in zip(schemes, parts, strict=True):
        ratios = (2.0, 1.2, 1.3) if one.grid is None else (1.5, 1.9, 1.1)
        first, square, curve = part.subplots(1, 3, width_ratios=ratios)
        part.set_facecolor(figure.get_facecolor())
        first.set_title(f"{one.stack}: {one.kind}, {one.door}", size=10)
        if one.table is not None:
            _image(first, one.table, aspect="auto")
            first.set(xlabel="dimension", ylabel="position")
        elif one.by_head is not None:
            _heads(first, one.by_head)
        else:
            first.axis("off")
        if one.grid is None:
            _image(square, one.similarity)
            square.set(xlabel="position", ylabel="position")
            square.set_title(
                "bias, mean of the heads" if one.heads is not None else "similarity", size=10
            )
            _curves(curve, {"": one.by_offset})
            curve.set_title("its mean by offset", size=10)
        else:
            _maps(square, one)
            down, across = one.by_axis
            _curves(curve, {"in one column": down, "in one row": across})
            curve.set_title("its mean by patches apart", size=10)
    return figure


def _image(axes: Axes, values: Tensor, **settings: Any) -> None:
    image = axes.imshow(values.numpy(), cmap=colors(), interpolation="nearest", **settings)
    axes.figure.colorbar(image, ax=axes, fraction=0.046)


def _maps(axes: Axes, one: Positions) -> None:
    """A map for each of some patches, where it stands in the picture."""
    assert one.grid is not None
    maps = one.maps
    _image(axes, mosaic(maps))
    axes.set_axis_off()
    some = "all" if maps.shape[:2] == maps.shape[2:] else "some"
    what = "bias" if one.heads is not None else "similarity"
    axes.set_title(f"{what} to all patches: a map for {some}, in its place", size=10)


def mosaic(maps: Tensor) -> Tensor:
    """Maps as one image, NaN between them: [r * (rows + 1) - 1, c * (columns + 1) - 1]."""
    framed = torch.nn.functional.pad(maps, (0, 1, 0, 1), value=torch.nan)
    return framed.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:-1, :-1]


def _heads(axes: Axes, by_head: Tensor) -> None:
    """A line a head, the first the faintest."""
    shades, far = colors(), by_head.shape[1] // 2
    for number, values in enumerate(by_head, start=1):
        color = shades(0.25 + 0.75 * number / len(by_head))
        axes.plot(range(-far, far + 1), values.numpy(), color=color, label=f"head {number}")
    _plain(axes)
    axes.set(xlabel="offset (key − query)", ylabel="bias")
    if len(by_head) <= NAMED:
        axes.legend(fontsize=6.5, ncols=2, frameon=False)


def _curves(axes: Axes, curves: dict[str, Tensor]) -> None:
    for (name, values), color in zip(curves.items(), (ACCENT, SOFT), strict=False):
        far = len(values) // 2
        axes.plot(range(-far, far + 1), values.numpy(), color=color, label=name)
    _plain(axes)
    axes.set(xlabel="offset")
    if len(curves) > 1:
        axes.legend(fontsize=7, frameon=False)


def _plain(axes: Axes) -> None:
    axes.axvline(0, color=HIDDEN, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
