"""Curves of runs: training loss, validation scores, learning rate, over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.history import History
from regard.errors import InputError, missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
COLORS = ("#a3254f", "#2a6f97", "#c97b12", "#3d7a3d", "#6d4c9f", "#7a5a45", "#444444", "#0b8a8a")
SHOWN = ("loss", "nll", "bleu", "chrf", "exact_match")
"""Validation scores that have a panel, where some run has them."""


def check_format(path: Path) -> None:
    """Refuse a file name that no picture has.

    Raises:
        InputError: naming the endings that are known.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"a picture's name ends in {', '.join(FORMATS)}, not {path.suffix!r}", where=str(path)
        )


def draw_curves(runs: Sequence[History], path: Path) -> None:
    """Draw the runs' curves into a new picture.

    Raises:
        InputError: no run has a figure yet.
        RegardError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "look") from error
    panels = ["loss", *(f"valid/{name}" for name in SHOWN)]
    panels = [name for name in panels if any(run.series(name)[0] for run in runs)]
    if not panels:
        raise InputError("no run has a figure yet", hint="let one train for some steps")
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    legend = 0.22 * math.ceil(len(runs) / 4) + 0.2
    figure = Figure(figsize=(4.4 * columns, 3.2 * rows + legend), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, name in zip(axes, panels, strict=False):
        _panel(axis, name, runs)
    for axis in list(axes)[len(panels) :]:
        axis.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, len(runs)), frameon=False
    )
    figure.savefig(path, dpi=150)


def _panel(axis: Axes, name: str, runs: Sequence[History]) -> None:
    for number, run in enumerate(runs):
        steps, values = run.series(name)
        color = COLORS[number % len(COLORS)]
        dashes = ("-", "--", ":", "-.")[number // len(COLORS) % 4]
        mark = "o" if len(steps) < 40 and name.startswith("valid/") else ""
        axis.plot(steps, values, dashes, color=color, marker=mark, markersize=3, label=run.name)
    axis.set_title(_TITLES.get(name, name), loc="left", fontsize=10)
    axis.set_xlabel("step", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


_TITLES = {
    "loss": "training loss (smoothed)",
    "valid/loss": "validation loss",
    "valid/nll": "validation loss, unsmoothed",
    "valid/bleu": "validation BLEU",
    "valid/chrf": "validation chrF",
    "valid/exact_match": "validation exact match",
}
