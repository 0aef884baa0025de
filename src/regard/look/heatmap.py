"""Images of attention: a grid of every layer and head, or one head alone.

Shapes: weights [Tq, Tk].
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from regard.errors import InputError, missing_extra
from regard.look.trace import LayerAttention, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from regard.look.picture import Picture

INK, SOFT, ACCENT, HIDDEN = "#22201c", "#6b665c", "#a3254f", "#e9e5dc"
RAMP = ("#fbf8f1", "#fbd3a0", "#f0825f", "#a92a67", "#2f0f4d")
GAMMA = 0.6
"""Small weights matter: colors follow w^0.6, here as on the page; the bar beside says which."""

FONTS = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Arial Unicode MS")
DPI = 150
LABEL_POINTS = 6.5
INCHES_PER_LABEL = 0.115
LONGEST_LABEL = 14
NARROWEST, LEGEND = 6.5, 1.9
"""Inches of an overview, and of its bar of colors, beside the last line of the head."""
HEAD = 1.1
"""Inches of the text, its answer and the legend, over the views."""

WIDEST = 30
"""Inches up to which the views stand side by side."""

ANNOTATED = 14
"""Tokens up to which a single head's cells carry their numbers."""


def draw(picture: Picture, *, view: str | None = None) -> Figure:
    """Every head of the encoder, the decoder and the cross-attention, or of one view alone.

    Raises:
        InputError: when there is no such view.
        RegardError: when matplotlib is not installed.
    """
    from regard.look.picture import view_names

    assert picture.trace is not None
    found, names = picture.trace, view_names(picture.trace)
    chosen = list(names) if view is None else [known(view, names)]
    blocks = [found.views()[names[name]] for name in chosen]  # type: ignore[index]
    sizes = [_block_size(found, block) for block in blocks]
    across = sum(width for width, _ in sizes) <= WIDEST
    width = sum(w for w, _ in sizes) if across else max(w for w, _ in sizes)
    width = max(width, NARROWEST)
    height = max(h for _, h in sizes) if across else sum(h for _, h in sizes)
    whole = height + HEAD
    figure = new_figure(width, whole)
    _titles(figure, picture, whole)
    left, top = 0.0, height
    for name, block, (block_width, block_height) in zip(chosen, blocks, sizes, strict=True):
        _block(figure, found, block, name, (left, top, width, whole))
        left, top = (left + block_width, top) if across else (left, top - block_height)
    _legend(figure, width, whole)
    return figure


def draw_head(picture: Picture, view: str, layer: int, head: int) -> Figure:
    """One head alone, its numbers in the cells where the text is short.

    Raises:
        InputError: when there is no such view, layer or head.
    """
    from regard.look.picture import view_names

    assert picture.trace is not None
    found, names = picture.trace, view_names(picture.trace)
    one = one_head(found.views()[names[known(view, names)]], layer, head)  # type: ignore[index]
    weights = one.weights[head]
    rows, columns = weights.shape
    figure = new_figure(max(4.5, 0.34 * columns + 1.8), max(3.6, 0.34 * rows + 1.9))
    axes = figure.add_subplot()
    image = _paint(axes, one, head)
    _label(axes, found, one, "both", points=9.0)
    which = "rollout" if found.rolled else f"head {head + 1}"
    axes.set_title(f"{view}, layer {layer + 1}, {which}\n{figures(one, head)}", size=10)
    figure.colorbar(image, ax=axes, shrink=0.7, ticks=[0, 0.1, 0.25, 0.5, 1.0])
    if max(rows, columns) <= ANNOTATED:
        for i in range(rows):
            for j in range(columns):
                value = float(weights[i, j])
                color = "white" if value > 0.35 else INK
                if bool(one.visible[i, j]):
                    text = f"{value:.2f}".removeprefix("0")
                    axes.text(j, i, text, ha="center", va="center", size=6, color=color)
    with _missing_glyphs():
        figure.tight_layout()
    return figure


def one_head(block: Sequence[LayerAttention], layer: int, head: int) -> LayerAttention:
    """The layer of a view that has this head.

    Raises:
        InputError: there is none such.
    """
    if not 0 <= layer < len(block) or not 0 <= head < len(block[layer].weights):
        heads = len(block[0].weights)
        raise InputError(
            "there is no such head", hint=f"there are {len(block)} layers of {heads} heads"
        )
    return block[layer]


def write(figure: Figure, path: Path) -> None:
    """Save a figure; a script that no installed font has is drawn as boxes, without a word."""
    with _missing_glyphs():
        figure.savefig(path)


@contextmanager
def _missing_glyphs() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def known(view: str, names: Any) -> str:
    """The view.

    Raises:
        InputError: there is none such.
    """
    if view not in names:
        raise InputError(f"there is no view {view!r}", hint=f"there are: {', '.join(names)}")
    return view


def new_figure(width: float, height: float) -> Figure:
    """An empty one, in inches.

    Raises:
        RegardError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "look") from None

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="#fffefb")
    FigureCanvasAgg(figure)
    return figure


def colors() -> Any:
    """The map of colors of regard's pictures."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("regard", list(RAMP)).with_extremes(bad=HIDDEN)


def _cell(found: Trace, block: Sequence[LayerAttention]) -> tuple[float, float]:
    """Width and height in inches of one head's map, so that its labels can be read."""
    rows, columns = len(found.queries(block[0])), len(found.keys(block[0]))
    return max(1.0, INCHES_PER_LABEL * columns), max(1.0, INCHES_PER_LABEL * rows)


MARGIN_LEFT, MARGIN_TOP, MARGIN_BOTTOM, GAP, CAPTION = 1.15, 0.5, 0.95, 0.12, 0.26


def _block_size(found: Trace, block: Sequence[LayerAttention]) -> tuple[float, float]:
    """Width and height in inches of a view's grid with its labels."""
    width, height = _cell(found, block)
    heads = max(len(layer.weights) for layer in block)
    across = MARGIN_LEFT + heads * (width + GAP) + 0.2
    return across, MARGIN_TOP + len(block) * (height + CAPTION) + MARGIN_BOTTOM


def _block(
    figure: Figure,
    found: Trace,
    block: Sequence[LayerAttention],
    name: str,
    place: tuple[float, float, float, float],
) -> None:
    """Draw a view's grid; ``place`` is its left and top edge, and the whole figure's size."""
    left, top, whole_width, whole_height = place
    width, height = _cell(found, block)
    figure.text(
        (left + MARGIN_LEFT) / whole_width,
        (top - 0.22) / whole_height,
        _heading(block[0], name, rolled=found.rolled),
        size=12,
        weight="bold",
        color=INK,
    )
    for row, layer in enumerate(block):
        bottom = top - MARGIN_TOP - (row + 1) * (height + CAPTION)
        for head in range(len(layer.weights)):
            x = left + MARGIN_LEFT + head * (width + GAP)
            box = (x / whole_width, bottom / whole_height)
            axes = figure.add_axes((*box, width / whole_width, height / whole_height))
            _paint(axes, layer, head)
            axes.set_title(
                f"{_number(row, head, found)}  {figures(layer, head, short=True)}",
                size=LABEL_POINTS,
                color=SOFT,
                pad=2,
            )
            sides = ("rows" if head == 0 else "") + ("columns" if row == len(block) - 1 else "")
            _label(axes, found, layer, {"rowscolumns": "both"}.get(sides, sides))


def _heading(layer: LayerAttention, name: str, *, rolled: bool) -> str:
    title = name.replace("_", " ").capitalize()
    if rolled:  # one narrow picture a layer
        return title
    kind = "target (rows) over source" if layer.kind == "cross" else "self-attention"
    return f"{title}: {kind}"


def _number(row: int, head: int, found: Trace) -> str:
    return f"{row + 1}" if found.rolled else f"{row + 1}.{head + 1}"


def figures(layer: LayerAttention, head: int, *, short: bool = False) -> str:
    """Entropy and importance of a head, in words."""
    entropy = f"{float(layer.entropy[head]):.2f}"
    text = entropy if short else f"entropy {entropy} nats"
    share = float(layer.relative_entropy[head])
    if not short and not math.isnan(share):
        text += f" ({share:.0%} of the most)"
    if layer.importance is not None:
        rise = f"{float(layer.importance[head]):+.3f}"
        text += f"  {rise}" if short else f", loss {rise} without it"
    return text


def _paint(axes: Axes, layer: LayerAttention, head: int) -> Any:
    from matplotlib.colors import PowerNorm

    weights = layer.weights[head].masked_fill(~layer.visible, torch.nan).numpy()
    for spine in axes.spines.values():
        spine.set_color(HIDDEN)
    return axes.imshow(
        weights,
        cmap=colors(),
        norm=PowerNorm(GAMMA, vmin=0.0, vmax=1.0),
        aspect="auto",
        interpolation="nearest",
    )


def _label(
    axes: Axes,
    found: Trace,
    layer: LayerAttention,
    sides: str,
    *,
    points: float = LABEL_POINTS,
) -> None:
    axes.tick_params(length=0, pad=2, labelsize=points, labelcolor=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    if sides in ("rows", "both"):
        words = [_short(word) for word in found.queries(layer)]
        axes.set_yticks(range(len(words)), words)
    if sides in ("columns", "both"):
        words = [_short(word) for word in found.keys(layer)]
        axes.set_xticks(range(len(words)), words, rotation=90)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        _plain(text)


def _plain(text: Any) -> None:
    """Words as they are: no formulas between dollars, other scripts where a font has them."""
    text.set_parse_math(False)
    text.set_fontfamily(list(_fonts()))


def _fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return tuple(font for font in FONTS if font in installed)


def _short(word: str) -> str:
    word = word if word.strip() else "␣"
    return word if len(word) <= LONGEST_LABEL else word[: LONGEST_LABEL - 1] + "…"


def _legend(figure: Figure, width: float, height: float) -> None:
    """The bar that says which color is how much, in the upper right corner."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    long = LEGEND - 0.3
    box = (1 - (long + 0.3) / width, 1 - 0.78 / height, long / width, 0.1 / height)
    shown = ScalarMappable(PowerNorm(GAMMA, vmin=0.0, vmax=1.0), colors())
    bar = figure.colorbar(shown, cax=figure.add_axes(box), orientation="horizontal")
    bar.set_ticks([0, 0.1, 0.25, 0.5, 1.0], labels=["0", ".1", ".25", ".5", "1"])
    bar.ax.tick_params(length=2, labelsize=LABEL_POINTS, labelcolor=SOFT)


def _titles(figure: Figure, picture: Picture, height: float) -> None:
    """The text, the answer under it and the loss, in the head of the figure."""
    assert picture.trace is not None
    width = figure.get_figwidth()
    loss = "" if picture.trace.loss is None else f"   (loss {picture.trace.loss:.3f} nats a token)"
    lines = [(picture.text, INK, 0.32)]
    if picture.target:
        lines.append((f"→ {picture.told}{loss}", ACCENT, 0.6))
    rise = any(layer.importance is not None for layer in picture.trace.layers)
    told = "attention rollout; each map: layer, entropy in nats"
    if not picture.trace.rolled:
        told = "each map: layer.head, entropy in nats"
    lines.append((told + (", loss without it" if rise else ""), SOFT, 0.88))
    for text, color, down in lines:
        beside = LEGEND if color == SOFT else 0.0
        fits = max(30, int((width - beside) * 9))  # letters at 13 points
        limit = fits * 13 // 9
        text = text if len(text) <= limit else text[: limit - 1] + "…"
        size = 13 * min(1.0, fits / len(text)) if text else 13
        _plain(figure.text(0.2 / width, 1 - down / height, text, size=size, color=color))
