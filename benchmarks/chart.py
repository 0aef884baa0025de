"""Draw the speed chart from the files that the peers' harness writes with --json.

    cd benchmarks/results
    python -m benchmarks.chart train-*-bfloat16.json decode-base-*.json generate-int8.json \\
      encode-int8.json bert-*.json lm-*.json t5-*.json vit-*.json -o docs/images/speed.png

Each file holds rows of one run in which regard was timed beside every peer: window after window,
so that a ratio compares the same minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import existing, save_picture

OURS, THEIRS = "#a3254f", "#b9b2a6"
COLUMNS = 2
JOBS = {
    "train": "Training",
    "decode": "Decoding",
    "lm": "GPT step",
    "bert": "BERT step",
    "t5": "T5 step",
    "vit": "ViT step",
    "generate": "Generation",
    "encode": "States",
}


@dataclass(frozen=True)
class Row:
    """One peer beside regard in one job; tokens a second, medians over windows."""

    job: str
    case: str
    peer: str
    theirs: float
    ours: float
    ratio: float

    @property
    def title(self) -> str:
        return f"{JOBS.get(self.job, self.job)}, {self.case}"


def read(paths: Iterable[Path]) -> list[Row]:
    """The rows of the files in which regard was timed; training first."""
    found = []
    for path in sorted(paths, key=lambda one: (not one.name.startswith("train"), one.name)):
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            if row.get("rate") and row.get("versus") and row.get("ratio"):
                figures = (row[key]["median"] for key in ("rate", "versus", "ratio"))
                found.append(Row(row["job"], row["case"], row["peer"], *figures))
    return found


def by_title(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each job and case."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.title, []).append(row)
    return found


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each job and case: a bar for each system, the fastest on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = by_title(rows)
    across = min(COLUMNS, len(panels))
    down = math.ceil(len(panels) / across)
    bars = [len(held) + 1 for held in panels.values()]
    most = [max(bars[at : at + across]) for at in range(0, len(bars), across)]
    size = (4.8 * across, sum(0.26 * count + 0.45 for count in most))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False, height_ratios=most).flatten()
    for axis in grid[len(panels) :]:
        axis.axis("off")
    for axis, (title, held) in zip(grid, panels.items(), strict=False):
        speeds = {row.peer: row.theirs for row in held}
        speeds["regard"] = statistics.median(row.ours for row in held)
        names = sorted(speeds, key=lambda name: speeds[name])
        colors = [OURS if name == "regard" else THEIRS for name in names]
        drawn = axis.barh(names, [speeds[name] for name in names], color=colors)
        axis.bar_label(drawn, fmt="{:,.0f}", padding=4, fontsize=8)
        unit = "pictures" if held[0].job == "vit" else "tokens"
        axis.set_title(f"{title}: {unit}/s", loc="left", fontsize=9)
        axis.tick_params(labelsize=8, length=0)
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.margins(x=0.15)
    save_picture(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=existing, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rows = read(options.files)
    if not rows:
        raise SystemExit("no row in which regard was timed beside a peer")
    draw(rows, options.output)


if __name__ == "__main__":
    main()
