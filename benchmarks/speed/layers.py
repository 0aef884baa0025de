"""The paper's table 1 measured: self-attention, LSTM and convolutions of one width.

    python -m benchmarks.speed.layers [--rounds 3] [--lengths 64 … 8192]

Time of forward and backward pass for a token, and the bytes that autograd keeps for a token, of one
layer over texts of n tokens. A batch has as many texts as make `TOKENS`. Tables go to RESULTS.md,
the picture to layers.png.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from benchmarks.kinds import KERNEL, KINDS, enough
from benchmarks.report import measured_on, save_picture, table, write_section
from benchmarks.speed.rounds import in_turn
from torch import Tensor, nn

from regard.nn import backend, kernels

HERE = Path(__file__).parent
WIDTH, TOKENS = 256, 8192
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
DENSE = "self-attention, as written"
"""By the plain formula, which holds all n² weights; else `auto` chooses the kernel."""
Figures = dict[tuple[str, int], float]
"""By kind and length."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.25, help="a window lasts at least this")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    options = parser.parse_args()
    backend.keep_heap()
    torch.manual_seed(0)
    times: Figures = {}
    bytes_kept: Figures = {}
    parameters: dict[str, int] = {}
    for length in options.lengths:
        works: dict[str, Callable[[], object]] = {}
        states = torch.randn(max(1, TOKENS // length), length, WIDTH, requires_grad=True)
        for name in (*KINDS, DENSE):
            layer = KINDS[name.partition(", as")[0]].make(length, WIDTH)
            parameters[name] = sum(held.numel() for held in layer.parameters())
            works[name] = partial(step, layer, states, name == DENSE)
            bytes_kept[name, length] = kept(layer, states, name == DENSE) / states[..., 0].numel()
        for name, seconds in in_turn(works, options.rounds, options.seconds).items():
            times[name, length] = statistics.median(seconds) / states[..., 0].numel()
            print(
                f"{length:>6} {name:<28} {1e6 * times[name, length]:9.2f} µs a token, "
                f"{bytes_kept[name, length] / 1024:9.1f} KiB",
                flush=True,
            )
    draw(times, bytes_kept, HERE / "layers.png")
    write(times, bytes_kept, parameters, options.rounds)


def step(layer: nn.Module, states: Tensor, dense: bool) -> None:
    """Forward and backward pass."""
    layer.zero_grad(set_to_none=True)
    states.grad = None
    with kernels.use("dense") if dense else nullcontext():
        layer(states).sum().backward()


def kept(layer: nn.Module, states: Tensor, dense: bool) -> int:
    """Bytes that a forward pass keeps for the backward one, each storage once; no parameters."""
    own = [held.untyped_storage().data_ptr() for held in layer.parameters()]
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor  # held, so that its address stays
        return tensor

    with (
        kernels.use("dense") if dense else nullcontext(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        made = layer(states)
    del made
    return sum(one.untyped_storage().nbytes() for at, one in storages.items() if at not in own)


def draw(times: Figures, bytes_kept: Figures, path: Path) -> None:
    """Two panels over n: time and memory of a token."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    lengths = list(dict.fromkeys(length for _, length in times))
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = {
        "forward and backward, µs a token": (times, 1e6),
        "kept for the backward pass, KiB a token": (bytes_kept, 1 / 1024),
    }
    axes = figure.subplots(1, len(panels))
    styles = {**{name: kind.style for name, kind in KINDS.items()}, DENSE: "C1D:"}
    for axis, (title, (figures, unit)) in zip(axes, panels.items(), strict=True):
        for name, style in styles.items():
            values = [unit * figures[name, length] for length in lengths]
            axis.loglog(lengths, values, style, markersize=4, label=name)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xticks(lengths, [f"{length:,}" for length in lengths], fontsize=8)
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.tick_params(labelsize=8)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axis.set_xlabel("n, tokens of a text", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, fontsize=8)
    save_picture(figure, path)


def write(times: Figures, bytes_kept: Figures, parameters: dict[str, int], rounds: int) -> None:
    lengths = list(dict.fromkeys(length for _, length in times))
    most = max(lengths)
    body = [
        f"{measured_on()} Float32, width {WIDTH}, {TOKENS:,} tokens a batch, every layer causal; "
        f"medians of {rounds} rounds in turn. Convolutions see k = {KERNEL} places; "
        f"a stack has as many layers as span n, {enough(lengths[0])} to {enough(most)}. "
        "Parameters are those at the longest n.",
        "![layers](speed/layers.png)",
        "Beside the paper's table 1:",
    ]
    header = ["layer", "parameters", "complexity a layer", "sequential operations", "longest path"]
    rows = []
    for name, kind in KINDS.items():
        size = f"{parameters[name]:,}"
        rows.append([name, size, kind.complexity, kind.sequential, kind.path])
    body.append(table(header, rows))
    header = [f"{length:,}" for length in lengths]
    for title, figures, unit in (
        ("µs a token, forward and backward", times, 1e6),
        ("KiB a token, kept for the backward pass", bytes_kept, 1 / 1024),
    ):
        rows = [
            [name, *(f"{unit * figures[name, length]:,.3g}" for length in lengths)]
            for name in (*KINDS, DENSE)
        ]
        body.append(table([f"{title}; n =", *header], rows))
    write_section("The paper's table 1, measured", "\n\n".join(body))


if __name__ == "__main__":
    main()
