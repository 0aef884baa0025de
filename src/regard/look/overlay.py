"""A picture with what a model looks at laid over it: rollout, and each head's attention.

Shapes: pixels uint8 [H, W, C], heads [rows, columns] of patches.

What stands for the picture is its class token: drawn is where that looks; without one, where the
patches look on average, which is what their mean is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from regard.look.rollout import last_rollout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from regard.look.picture import Picture

PANEL, LARGE = 1.1, 2.6
"""Inches of a head's panel, and of the picture and its rollout."""

DIMMED, TINT = 0.25, 0.3
"""Brightness that stays where nothing is looked at; share of the warm color where most is."""

WARM = np.array([1.0, 0.35, 0.1], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Shown:
    """The picture that was read.

    Attributes:
        pixels: as the model sees them, uint8 [H, W, C].
        grid: rows and columns of patches.
        before: tokens that stand before the patches: 1 of a class token, or 0.
    """

    pixels: npt.NDArray[np.uint8]
    grid: tuple[int, int]
    before: int

    def heat(self, weights: Tensor) -> npt.NDArray[np.float32]:
        """Of attention [T, T], the part of each patch [rows, columns]; the most is 1."""
        rows, columns = self.grid
        patches = slice(self.before, self.before + rows * columns)
        seen = weights[0] if self.before else weights[patches].mean(dim=0)
        heat: npt.NDArray[np.float32] = seen[patches].reshape(rows, columns).numpy()
        return heat / max(float(heat.max()), 1e-12)

    def lit(self, weights: Tensor) -> npt.NDArray[np.float32]:
        """The picture [H, W, 3] in 0 to 1, bright where attention goes."""
        height, width = self.pixels.shape[:2]
        heat = _stretched(self.heat(weights), height, width)[..., None]
        pixels = np.broadcast_to(self.pixels, (height, width, 3)) / np.float32(255.0)
        dimmed = pixels * (DIMMED + (1.0 - TINT - DIMMED) * heat)
        lit: npt.NDArray[np.float32] = dimmed + TINT * heat * WARM
        return lit


def _stretched(heat: npt.NDArray[np.float32], height: int, width: int) -> Any:
    """[rows, columns] → [height, width], linear between the middles of patches."""
    made: Any = heat
    for axis, size in ((0, height), (1, width)):
        old = made.shape[axis]
        places = ((np.arange(size) + 0.5) * old / size - 0.5).clip(0, old - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape((-1, 1) if axis == 0 else (1, -1))
        high = np.minimum(low + 1, old - 1)
        made = (1 - share) * made.take(low, axis) + share * made.take(high, axis)
    return made


def draw(picture: Picture) -> Figure:
    """The picture, its rollout, and below them a panel for each layer and head."""
    from regard.look.heatmap import new_figure

    assert picture.trace is not None
    assert picture.shown is not None
    shown, found = picture.shown, picture.trace
    layers = found.layers
    across = max(len(layer.weights) for layer in layers)
    width = max(2 * LARGE + 0.6, across * PANEL + 1.0)
    figure = new_figure(width, LARGE + 0.9 + len(layers) * PANEL)
    whole = figure.get_figheight()
    top = _pair(figure, picture, "attention rollout", last_rollout(found))
    lower = figure.add_gridspec(
        len(layers), across, left=0.9 / width, right=0.98, top=top - 0.3 / whole, bottom=0.01,
        wspace=0.06, hspace=0.06,
    )  # fmt: skip
    for row, layer in enumerate(layers):
        for head, weights in enumerate(layer.weights):
            axes = figure.add_subplot(lower[row, head])
            axes.imshow(shown.lit(weights))
            axes.set_xticks([])
            axes.set_yticks([])
            if head == 0:
                axes.set_ylabel(f"layer {row + 1}", size=8)
            if row == 0 and not found.rolled:
                axes.set_title(f"head {head + 1}", size=8)
            if layer.importance is not None:
                worth, place = f"{float(layer.importance[head]):+.3f}", axes.transAxes
                axes.text(0.03, 0.03, worth, size=6, color="white", transform=place)
    return figure


def draw_head(picture: Picture, layer: int, head: int) -> Figure:
    """The picture, and one head laid over it.

    Raises:
        InputError: there is no such layer or head.
    """
    from regard.look.heatmap import figures, new_figure, one_head

    assert picture.trace is not None
    one = one_head(picture.trace.layers, layer, head)
    figure = new_figure(2 * LARGE + 0.6, LARGE + 1.0)
    which = "rollout" if picture.trace.rolled else f"head {head + 1}"
    title = f"layer {layer + 1}, {which}\n{figures(one, head)}"
    _pair(figure, picture, title, one.weights[head])
    return figure


def _pair(figure: Figure, picture: Picture, title: str, weights: Tensor) -> float:
    """The picture at the top, and beside it with weights laid over it; where they end."""
    assert picture.shown is not None
    shown, whole = picture.shown, figure.get_figheight()
    top = 1.0 - (LARGE + 0.8) / whole
    upper = figure.add_gridspec(1, 2, left=0.06, right=0.97, top=1 - 0.75 / whole, bottom=top)
    panels: list[tuple[str, Any]] = [
        ("as the model sees it", np.broadcast_to(shown.pixels, (*shown.pixels.shape[:2], 3))),
        (title, shown.lit(weights)),
    ]
    for n, (name, pixels) in enumerate(panels):
        axes = figure.add_subplot(upper[0, n])
        axes.imshow(pixels)
        axes.set_title(name, size=9)
        axes.set_axis_off()
    answer = f"{picture.text} → {picture.told}" if picture.target else picture.text
    figure.suptitle(answer, size=10, y=1 - 0.12 / whole, va="top")
    return top
