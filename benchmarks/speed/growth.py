"""How cost grows: a training step and decoding while one number at a time goes up.

    python -m benchmarks.speed.growth [--rounds 3] [--seconds 0.25] [--only tokens beam …]

From a middle size (`Size`, `Search`) each sweep changes one number; its points are timed in turn.
Beside what is measured stands what the FLOPs of `regard.cost` predict from the middle. Tables go to
RESULTS.md, the picture to growth.png.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.report import measured_on, save_picture, table, write_section
from benchmarks.speed.decode import END, VOCAB, decode, in_precision
from benchmarks.speed.rounds import in_turn
from benchmarks.speed.train import Batch, stepper

from regard.cost import cost
from regard.models.transformer import Transformer, TransformerConfig
from regard.nn import backend

HERE = Path(__file__).parent
THREADS = torch.get_num_threads()
HEAD_WIDTH = 64
STYLES = {"float32": "C0o-", "bfloat16": "C3s-", "int8": "C2^-"}


@dataclass(frozen=True)
class Size:
    """A model and a batch of its training; the defaults are the middle.

    Attributes:
        tokens: source and target training: tokens of a batch.
        length: of each source and each target.
        width: of the states; feed-forward networks are four times as wide, heads 64.
        layers: of the encoder, and of the decoder.
    """

    tokens: int = 2048
    length: int = 32
    width: int = 256
    layers: int = 4
    vocabulary: int = VOCAB
    threads: int = THREADS

    def config(self) -> TransformerConfig:
        overrides = {
            "d_model": self.width,
            "num_layers": self.layers,
            "layer.attention.num_heads": self.width // HEAD_WIDTH,
            "layer.feed_forward.d_ff": 4 * self.width,
        }
        return TransformerConfig.preset("tiny", vocab_size=self.vocabulary, overrides=overrides)

    def batch(self) -> Batch:
        """Random texts of one length, without padding."""
        sentences = self.tokens // (2 * self.length)
        source = torch.randint(4, self.vocabulary, (sentences, self.length))
        target = torch.randint(4, self.vocabulary, (sentences, self.length + 1))
        return {
            "source_ids": source,
            "source_mask": torch.ones_like(source, dtype=torch.bool),
            "target_ids": target,
            "target_mask": torch.ones_like(target, dtype=torch.bool),
        }

    def flops(self) -> float:
        """Of a training step."""
        found = cost("transformer", self.config(), lengths=(self.length,))
        return found.lengths[0].training * self.tokens / found.sides

    def work(self, precision: str) -> Callable[[], object]:
        """A step of it; threads are set by whoever times it."""
        return partial(stepper(Transformer(self.config()).train(), precision), self.batch())


@dataclass(frozen=True)
class Search:
    """Sentences decoded together by the middle model; the defaults are the middle."""

    sentences: int = 16
    beam: int = 4
    threads: int = THREADS

    @property
    def tokens(self) -> int:
        """That come out: as many as go in."""
        return self.sentences * Size.length

    def flops(self) -> float:
        """The encoder's for each sentence, the decoder's for each hypothesis."""
        parts = cost("transformer", Size().config(), lengths=(Size.length,)).parts
        once = each = 0.0
        for part in parts:
            # a decoder's token sees half of the others, in the mean
            if part.name.startswith("encoder"):
                once += part.flops + part.attention * Size.length
            else:
                each += part.flops + part.attention * Size.length / 2
        return self.tokens * (once + each * self.beam)

    def work(self, model: Transformer) -> Callable[[], object]:
        rows = torch.randint(4, VOCAB - 1, (self.sentences, Size.length - 1)).tolist()
        options = Namespace(beam=self.beam, length=Size.length)
        return partial(decode, model, [[[*row, END] for row in rows]], options)


def powers(last: int) -> tuple[int, ...]:
    """1, 2, 4 … and the last."""
    return (*(2**n for n in range((last - 1).bit_length())), last)


TRAINING = {
    "tokens": ("training: tokens of a batch", (256, 512, 1024, 2048, 4096, 8192)),
    "length": ("training: length of the texts", (8, 16, 32, 64, 128, 256, 512, 1024)),
    "width": ("training: width", (64, 128, 256, 512, 1024)),
    "layers": ("training: layers in each stack", (1, 2, 4, 8, 16)),
    "vocabulary": ("training: vocabulary", (1_250, 2_500, 5_000, VOCAB, 20_000, 40_000, 80_000)),
    "threads": ("training: threads", powers(THREADS)),
}
DECODING = {
    "sentences": ("decoding: sentences together", (1, 2, 4, 8, 16, 32, 64)),
    "beam": ("decoding: beam (1 = greedy)", (1, 2, 4, 8, 16)),
    "threads": ("decoding: threads", powers(THREADS)),
}
Times = dict[tuple[str, int], list[float]]
"""Seconds by precision and value."""


@dataclass(frozen=True)
class Sweep:
    """What was measured of one of `TRAINING` or `DECODING`; sizes by the value that changes."""

    title: str
    sizes: Mapping[int, Size | Search]
    middle: int
    times: Times

    @property
    def precisions(self) -> list[str]:
        return list(dict.fromkeys(precision for precision, _ in self.times))

    def median(self, precision: str, value: int) -> float:
        return statistics.median(self.times[precision, value])

    def predicted(self, precision: str, value: int) -> float:
        """Seconds, if they grew from the middle as FLOPs do, and fell with threads."""
        size, middle = self.sizes[value], self.sizes[self.middle]
        growth = size.flops() / middle.flops() * middle.threads / size.threads
        return self.median(precision, self.middle) * growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.25, help="a window lasts at least this")
    sweeps = [*TRAINING, *DECODING]
    parser.add_argument(
        "--only", nargs="+", default=sweeps, choices=sweeps, help="sweeps, and no others"
    )
    options = parser.parse_args()
    backend.keep_heap()
    torch.manual_seed(0)
    found = [*trained(options), *decoded(options)]
    draw(found, HERE / "growth.png")
    write(found, options.rounds)


def trained(options: argparse.Namespace) -> Iterator[Sweep]:
    for name, (title, values) in TRAINING.items():
        if name not in options.only:
            continue
        sizes = {value: replace(Size(), **{name: value}) for value in values}
        works = {
            (precision, value): with_threads(size.threads, size.work(precision))
            for precision in ("float32", "bfloat16")
            for value, size in sizes.items()
        }
        times = in_turn(works, options.rounds, options.seconds)
        yield said(Sweep(title, sizes, getattr(Size(), name), times))
        del works
        gc.collect()


def decoded(options: argparse.Namespace) -> Iterator[Sweep]:
    settings = {"parts": False, "plain": False}
    models = {
        precision: in_precision(
            Transformer(Size().config()).eval(), Namespace(precision=precision, **settings)
        )
        for precision in ("float32", "bfloat16", "int8")
    }
    for name, (title, values) in DECODING.items():
        if name not in options.only:
            continue
        sizes = {value: replace(Search(), **{name: value}) for value in values}
        works = {
            (precision, value): with_threads(size.threads, size.work(model))
            for precision, model in models.items()
            for value, size in sizes.items()
        }
        times = in_turn(works, options.rounds, options.seconds)
        yield said(Sweep(title, sizes, getattr(Search(), name), times))


def with_threads(count: int, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        torch.set_num_threads(count)
        return work()

    return run


def said(sweep: Sweep) -> Sweep:
    """The same, printed."""
    print(sweep.title)
    for (precision, value), times in sweep.times.items():
        print(f"  {value:>7,} {precision:>9}: {1e3 * statistics.median(times):9.1f} ms", flush=True)
    return sweep


def draw(found: list[Sweep], path: Path) -> None:
    """A panel for each sweep: milliseconds over the number that grows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    across = 3
    down = -(-len(found) // across)
    figure = Figure(figsize=(3.1 * across, 2.5 * down + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    lines: dict[str, Any] = {}
    for axis, sweep in zip(axes, found, strict=False):
        values = list(sweep.sizes)
        for precision in sweep.precisions:
            style = STYLES[precision]
            wanted = [1e3 * sweep.predicted(precision, value) for value in values]
            lines["as FLOPs grow"] = axis.plot(values, wanted, ":", color="0.6")[0]
            measured = [1e3 * sweep.median(precision, value) for value in values]
            lines[precision] = axis.plot(values, measured, style, markersize=4)[0]
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(values, [short(value) for value in values], fontsize=8)
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.tick_params(axis="y", labelsize=8)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axis.set_title(sweep.title, loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[::across]:
        axis.set_ylabel("milliseconds", fontsize=8)
    for axis in axes[len(found) :]:
        axis.axis("off")
    lines = {name: lines[name] for name in (*STYLES, "as FLOPs grow") if name in lines}
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=4, fontsize=8)
    save_picture(figure, path)


def short(value: int) -> str:
    """2,048 as 2k and 2,500 as 2.5k: room is small below a panel."""
    kilo = 1024 if value % 1024 == 0 else 1000
    return f"{value / kilo:.3g}k" if value >= kilo else str(value)


def write(found: list[Sweep], rounds: int) -> None:
    middle, search = Size(), Search()
    body = [
        f"{measured_on()} Medians of {rounds} rounds, each sweep's points in turn. The middle: "
        f"{middle.layers} + {middle.layers} layers of width {middle.width}, vocabulary "
        f"{middle.vocabulary:,}, texts of {middle.length} tokens; a training step of "
        f"{middle.tokens:,} tokens; {search.sentences} sentences decoded with a beam of "
        f"{search.beam}. FLOPs are those that `regard.cost` counts; in brackets, the time beside "
        "the one that they predict from the middle.",
        "![growth](speed/growth.png)",
    ]
    for sweep in found:
        header = [sweep.title, "GFLOP"]
        for precision in sweep.precisions:
            header += [f"{precision}, ms (beside FLOPs)", "tokens/s"]
        body.append(table(header, [row(sweep, value) for value in sweep.sizes]))
    write_section("How cost grows", "\n\n".join(body))


def row(sweep: Sweep, value: int) -> list[str]:
    size = sweep.sizes[value]
    cells = [f"{value:,}", f"{size.flops() / 1e9:,.3g}"]
    for precision in sweep.precisions:
        seconds = sweep.median(precision, value)
        beside = seconds / sweep.predicted(precision, value)
        cells += [f"{1e3 * seconds:,.1f} ({beside:.2f})", f"{size.tokens / seconds:,.0f}"]
    return cells


if __name__ == "__main__":
    main()
