"""Copying over a distance: which layer still knows the first symbol after n others?

    python -m benchmarks.quality.distance [--steps 300] [--distances 2 … 256] [--seeds 1 2 3]

A text is n random symbols and a mark, and the mark is to be answered with the first of the symbols,
n places back. Each layer of `benchmarks.kinds`, at one width and between the same embedding (with
the paper's sinusoids added) and head, is trained anew for each distance and seed, with the same
batches, steps and optimizer. The table goes to RESULTS.md, the picture to distance.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean, stdev

import torch
from benchmarks.kinds import KINDS, LSTM, Kind, enough
from benchmarks.report import measured_on, save_picture, table, write_section
from torch import Tensor, nn
from torch.nn import functional as F

from regard.nn import HeadSpec, LanguageModelHead, TokenEmbedding, backend, sinusoids
from regard.training import ScheduleSettings, make_schedule

HERE = Path(__file__).parent
WIDTH, SYMBOLS = 64, 16
MARK = SYMBOLS
BATCH, PEAK, TRIALS = 32, 5e-3, 512
DISTANCES = (2, 4, 8, 16, 32, 64, 128, 256)
OPENNESS = 3.0
"""What the forget gates' biases get in the second LSTM: sigmoid(3) = 0.95 (Gers et al., 2000)."""
LAYERS = {
    **KINDS,
    "LSTM, gates open at first": Kind(lambda _, d: LSTM(d, OPENNESS), "", "", "", "C0D:"),
}
Scores = dict[tuple[str, int], list[float]]
"""Shares of right answers, one a seed, by layer and distance."""


class Copier(nn.Module):
    """Embedding, one layer (or a stack of convolutions) and head."""

    def __init__(self, kind: Kind, distance: int) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(SYMBOLS + 1, WIDTH, scale=True)
        self.layer = kind.make(distance + 1, WIDTH)
        self.head = LanguageModelHead(WIDTH, SYMBOLS, spec=HeadSpec(bias=True))
        self.register_buffer("positions", sinusoids(distance + 1, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, V] at the last of the places; ids [B, n + 1]."""
        states = self.layer(self.embedding(ids) + self.positions)  # [B, n + 1, d]
        logits: Tensor = self.head(states[:, -1])
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--distances", type=int, nargs="+", default=DISTANCES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backend.keep_heap()
    begun = time.process_time()
    scores: Scores = {}
    for name, kind in LAYERS.items():
        for distance in options.distances:
            found = [accuracy(kind, distance, seed, options.steps) for seed in options.seeds]
            scores[name, distance] = found
            print(f"{name:<26} {distance:>4}: {mean(found):.1%}", flush=True)
    draw(scores, HERE / "distance.png")
    write(scores, options, (time.process_time() - begun) / 60)


def accuracy(kind: Kind, distance: int, seed: int, steps: int) -> float:
    """Train one, and try it on texts that it has not seen."""
    torch.manual_seed(seed)
    model = Copier(kind, distance)
    settings = ScheduleSettings("linear", peak=PEAK, warmup_steps=steps // 10)
    schedule = make_schedule(settings, steps)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for number in range(1, steps + 1):
        ids, first = texts(BATCH, distance)
        F.cross_entropy(model(ids), first).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = schedule(number)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        ids, first = texts(TRIALS, distance)
        return (model(ids).argmax(dim=-1) == first).float().mean().item()


def texts(count: int, distance: int) -> tuple[Tensor, Tensor]:
    """Ids [count, distance + 1] and their answers [count]."""
    ids = torch.randint(SYMBOLS, (count, distance + 1))
    ids[:, -1] = MARK
    return ids, ids[:, 0]


def draw(scores: Scores, path: Path) -> None:
    """Accuracy over distance: the mean of the seeds, the least and the most as a band."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    distances = list(dict.fromkeys(distance for _, distance in scores))
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for number, (name, kind) in enumerate(LAYERS.items()):
        held = [[100 * one for one in scores[name, distance]] for distance in distances]
        size = len(LAYERS) - number  # the first are wider, so that lines over them hide nothing
        look = {"markersize": 3 + size, "linewidth": 1 + size / 2, "label": name}
        line = axis.plot(distances, list(map(mean, held)), kind.style, **look)[0]
        lows, highs = list(map(min, held)), list(map(max, held))
        axis.fill_between(distances, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.axhline(100 / SYMBOLS, color="0.6", linewidth=1, linestyle=":")
    axis.text(distances[0], 100 / SYMBOLS + 2, "guessing", fontsize=8, color="0.4")
    axis.set_xscale("log", base=2)
    axis.set_xticks(distances, map(str, distances), fontsize=8)
    axis.tick_params(labelsize=8)
    axis.set_xlabel("distance, tokens", fontsize=8)
    axis.set_ylabel("copied rightly, %", fontsize=8)
    axis.set_ylim(0, 103)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    save_picture(figure, path)


def write(scores: Scores, options: argparse.Namespace, minutes: float) -> None:
    distances = list(dict.fromkeys(distance for _, distance in scores))
    header = ["accuracy, %; distance", "parameters", *map(str, distances)]
    rows = []
    for name, kind in LAYERS.items():
        layer = kind.make(distances[-1] + 1, WIDTH)
        cells = [f"{sum(held.numel() for held in layer.parameters()):,}"]
        for distance in distances:
            found = [100 * one for one in scores[name, distance]]
            spread = f" ± {stdev(found):.0f}" if len(found) > 1 and stdev(found) >= 0.5 else ""
            cells.append(f"{mean(found):.0f}{spread}")
        rows.append([name, *cells])
    body = [
        f"{measured_on()} {minutes:.1f} minutes of a core. Width {WIDTH}, {SYMBOLS} symbols, "
        f"{options.steps} steps of {BATCH} texts (Adam, peak {PEAK:g}) for each distance and each "
        f"of {len(options.seeds)} seeds (mean ± standard deviation); guessing has "
        f"{100 / SYMBOLS:.0f}. All read sinusoidal positions; one layer each, of the dilated "
        f"convolutions as many as reach back, up to {enough(distances[-1] + 1)}. Parameters are "
        "the layer's, at the longest distance.",
        table(header, rows),
        "![distance](quality/distance.png)",
    ]
    write_section("Copying over a distance", "\n\n".join(body))


if __name__ == "__main__":
    main()
