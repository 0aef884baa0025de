"""Depth × norm placement × scaling by √d_k: does it train, and how do gradients flow?

    python -m benchmarks.quality.depth [--steps 300] [--depths 2 6 12 18]

Each combination trains a narrow Transformer on the demo corpus with the same batches, seed and
schedule. Written down: the loss at the end, and the gradient norm of each layer at the first step
and at the end; a picture shows both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import measured_on, table, write_section

import regard
from regard.errors import RegardError
from regard.training import StepDone

HERE = Path(__file__).parent
WIDTH, HEADS = 64, 4


@dataclass(frozen=True)
class Outcome:
    """One combination."""

    depth: int
    placement: str
    scaled: bool
    loss: float | None
    first: dict[str, float]
    last: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 6, 12, 18])
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = [
            one_run(options, Path(directory), *combination)
            for combination in itertools.product(options.depths, ("post", "pre"), (True, False))
        ]
    (HERE / "depth.json").write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    draw(found, HERE / "depth.png")
    write(found, options.steps)


def one_run(
    options: argparse.Namespace, directory: Path, depth: int, placement: str, scaled: bool
) -> Outcome:
    steps: list[StepDone] = []
    settings: dict[str, Any] = {
        "data.cache": str(directory / "data"),
        "model.d_model": WIDTH,
        "model.num_layers": depth,
        "model.layer.norm_placement": placement,
        "model.layer.attention.num_heads": HEADS,
        "model.layer.feed_forward.d_ff": 2 * WIDTH,
        "training.max_steps": options.steps,
        "training.threads": options.threads,
        "training.precision": "float32",
        "training.batch_tokens": 2048,
        "training.clip_norm": 0.0,
        "training.schedule.peak": 0.001,
        "training.schedule.warmup_steps": options.steps // 5,
        "training.checkpoint.every_steps": options.steps,
        "evaluation.every_steps": options.steps,
        "evaluation.samples": 0,
    }
    if not scaled:
        settings["model.layer.attention.scale"] = 1.0
    name = f"{depth}-{placement}-{'scaled' if scaled else 'unscaled'}"

    def watch(event: object) -> None:
        if isinstance(event, StepDone) and event.layer_norms:
            steps.append(event)

    loss = None
    try:
        run = regard.train("demo", settings, run=directory / name, listeners=[watch])
        assert run.result is not None
        loss = run.result.scores["loss"]
    except RegardError as error:
        print(f"{name}: {error}")
    print(name, loss, flush=True)
    first = dict(steps[0].layer_norms) if steps else {}
    return Outcome(
        depth, placement, scaled, loss, first, dict(steps[-1].layer_norms) if steps else {}
    )


def layer_norms(norms: dict[str, float], stack: str) -> list[float]:
    """The gradient norm of each layer of a stack, from the input on."""
    prefix = f"{stack}.layers."
    found = {int(k.removeprefix(prefix)): v for k, v in norms.items() if k.startswith(prefix)}
    return [found[index] for index in sorted(found)]


def draw(found: list[Outcome], path: Path) -> None:
    import matplotlib.pyplot as plt

    depths = sorted({one.depth for one in found})
    figure, axes = plt.subplots(1, len(depths) + 1, figsize=(3.4 * (len(depths) + 1), 3.4))
    styles = {
        ("post", True): "C0-",
        ("post", False): "C0--",
        ("pre", True): "C1-",
        ("pre", False): "C1--",
    }
    for (placement, scaled), style in styles.items():
        label = f"{placement}-norm, {'scaled' if scaled else 'not scaled'}"
        mine = [one for one in found if (one.placement, one.scaled) == (placement, scaled)]
        losses = [(one.depth, one.loss) for one in mine if one.loss is not None]
        axes[0].plot(*zip(*losses, strict=True), style, marker="o", label=label)
        for axis, depth in zip(axes[1:], depths, strict=True):
            for one in (one for one in mine if one.depth == depth):
                norms = layer_norms(one.first, "decoder")
                axis.semilogy(range(1, depth + 1), norms, style)
                axis.set_title(f"{depth} + {depth} layers", fontsize=9)
                axis.set_xlabel("decoder layer")
                axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set(xlabel="layers in each stack", ylabel="validation loss at the end")
    axes[1].set_ylabel("gradient norm, first step")
    lowest = min(axis.get_ylim()[0] for axis in axes[1:])
    highest = max(axis.get_ylim()[1] for axis in axes[1:])
    for axis in axes[1:]:
        axis.set_ylim(lowest, highest)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=4, fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, dpi=110)


def write(found: list[Outcome], steps: int) -> None:
    def ratio(norms: dict[str, float]) -> str:
        values = layer_norms(norms, "decoder")
        return f"{values[0] / values[-1]:.2g}" if values and values[-1] else ""

    rows = [
        (
            one.depth,
            one.placement,
            "1/√d_k" if one.scaled else "none",
            "diverged" if one.loss is None else f"{one.loss:.3f}",
            ratio(one.first),
            ratio(one.last),
        )
        for one in found
    ]
    header = (
        "layers",
        "norm",
        "scaling",
        f"validation loss after {steps} steps",
        "gradient first/last decoder layer, step 1",
        "the same at the end",
    )
    write_section(
        "Depth, norm placement, scaling",
        f"{measured_on()}\n\n{table(header, rows)}\n\n![depth](quality/depth.png)",
    )


if __name__ == "__main__":
    main()
