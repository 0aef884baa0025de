"""Loss curves: do the fast paths learn as the plain one does?

    python -m benchmarks.quality.curves --data DIR [--steps 500] [--threads 1] [key=value …]

Multi30k English→German in the published setting (DIR holds train and valid, tokenized, as
`benchmarks.quality.multi30k` needs them), from the same weights on the same batches: the plain path
(float32, the dense kernel, all logits at once, padding computed, torch's own dropout) beside what
users get in float32 and in bfloat16. Dropout draws other masks on each path, so the plain one is
trained with two more seeds of dropout: that is the noise. Without dropout there is none.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from unittest.mock import patch

from benchmarks.quality.multi30k import SETTINGS, data_settings
from benchmarks.report import existing, measured_on, table, write_section

from regard.nn import kernels
from regard.objectives.cross_entropy import plain_loss
from regard.training import StepDone, validation_loss
from regard.training import train as run_loop
from regard.workflow import Ready, build_model, load_recipe, make_ready, with_width

HERE = Path(__file__).parent
RECIPE = SETTINGS[False][0]
AT = (50, 100, 200, 500)
WIDE = 20  # steps that a point of the picture is the mean of
NO_DROPOUT = tuple(f"{part}.dropout=0" for part in ("model.embedding", "model.layer"))
COLORS = {"plain": "black", "plain, other dropout": "0.6", "float32": "C0", "bfloat16": "C3"}


@dataclass(frozen=True)
class Way:
    """One way to train: its name, the format, whether plainly, and a seed of dropout."""

    name: str
    precision: str
    plain: bool
    seed: int | None = None


WAYS = (
    Way("plain", "float32", plain=True),
    Way("float32", "float32", plain=False),
    Way("bfloat16", "bfloat16", plain=False),
    Way("plain, other dropout", "float32", plain=True, seed=101),
    Way("plain, other dropout", "float32", plain=True, seed=102),
)


@dataclass(frozen=True)
class Curve:
    """The loss of each step, and of the validation text at the end."""

    name: str
    dropout: bool
    losses: list[float]
    valid: float

    def after(self, step: int, wide: int = WIDE) -> float:
        """Mean of the last few steps until one."""
        return mean(self.losses[max(0, step - wide) : step])

    def farthest(self, other: Curve, until: int) -> float:
        """Largest difference of the two, as the picture has them."""
        return max(abs(self.after(n) - other.after(n)) for n in range(WIDE, until + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    options.raw = False
    found = []
    with tempfile.TemporaryDirectory() as directory:
        for dropout in (True, False):
            ready = prepared(options, Path(directory), () if dropout else NO_DROPOUT)
            for way in WAYS if dropout else [one for one in WAYS if one.seed is None]:
                found.append(trained(ready, way, dropout))
    (HERE / "curves.json").write_text(json.dumps([asdict(one) for one in found]) + "\n")
    draw(found, HERE / "curves.png")
    write(found, options)


def prepared(options: argparse.Namespace, directory: Path, more: tuple[str, ...]) -> Ready:
    given = [
        *data_settings(options),
        f"training.max_steps={options.steps}",
        f"training.threads={options.threads}",
        *more,
        *options.settings,
    ]
    return make_ready(load_recipe(RECIPE, given), directory, print)


def trained(ready: Ready, way: Way, dropout: bool) -> Curve:
    """Train in one way, and validate by the usual one."""
    model = build_model(ready.recipe, ready.task, ready.settings)
    seed = ready.settings.seed if way.seed is None else way.seed
    settings = replace(
        with_width(ready.settings, model), precision=way.precision, seed=seed, log_every=1
    )
    losses: list[float] = []

    def watch(event: object) -> None:
        if isinstance(event, StepDone):
            losses.append(round(event.terms["loss"], 4))
            if event.step % 50 == 0:
                print(
                    f"{way.name}: step {event.step}, {event.tokens_per_second:,.0f} tokens/s",
                    flush=True,
                )

    objective = ready.task.objective()
    with plainly() if way.plain else ExitStack():
        run_loop(model, objective, ready.splits.train, settings, listeners=[watch])
    valid = validation_loss(model, objective, ready.splits.valid)["loss"]
    print(f"{way.name}, {'with' if dropout else 'without'} dropout: {valid:.4f}", flush=True)
    return Curve(way.name, dropout, losses, round(valid, 4))


@contextmanager
def plainly() -> Iterator[None]:
    """Everything as the formulas say it, by torch's own functions."""
    with ExitStack() as stack:
        stack.enter_context(kernels.use("dense"))
        stack.enter_context(patch("regard.objectives.cross_entropy.chunked_loss", plain_loss))
        stack.enter_context(patch("regard.nn.stack.find_rows", lambda *_: None))
        stack.enter_context(patch("regard.nn.dropout._cheap", lambda *_: False))
        stack.enter_context(patch("regard.nn.backend._onednn_pays", lambda *_: False))
        yield


def plain_of(found: list[Curve], dropout: bool) -> Curve:
    return next(one for one in found if one.name == "plain" and one.dropout == dropout)


def draw(found: list[Curve], path: Path) -> None:
    """Losses above, differences to the plain path below; with dropout left, without right."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, 2, figsize=(9, 5), sharex=True, sharey="row", height_ratios=(2, 1), layout="constrained"
    )
    for (above, below), dropout in zip(axes.T, (True, False), strict=True):
        plain = plain_of(found, dropout)
        steps = range(WIDE, len(plain.losses) + 1)
        labeled = set[str]()
        for one in reversed([one for one in found if one.dropout == dropout]):
            label = None if one.name in labeled else one.name
            labeled.add(one.name)
            values = [one.after(step) for step in steps]
            style = {"color": COLORS[one.name], "linewidth": 1}
            above.plot(steps, values, **style, label=label)
            apart = [a - plain.after(step) for a, step in zip(values, steps, strict=True)]
            below.plot(steps, apart, **style)
        above.set_title("with dropout" if dropout else "without dropout", fontsize=9)
        above.legend(fontsize=8)
        below.set_xlabel("step")
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("minus the plain one's")
    figure.savefig(path, dpi=90)


def write(found: list[Curve], options: argparse.Namespace) -> None:
    steps = [step for step in AT if step <= options.steps]
    ends = sorted({min(100, options.steps), options.steps})
    rows = []
    for one in found:
        plain = plain_of(found, one.dropout)
        last = one.after(options.steps, 50)
        rows.append(
            (
                one.name,
                "as published" if one.dropout else "none",
                *(f"{one.losses[step - 1]:.3f}" for step in steps),
                *(f"{one.farthest(plain, until):.4f}" for until in ends),
                f"{last:.4f}",
                f"{last - plain.after(options.steps, 50):+.4f}",
                f"{one.valid:.4f}",
                f"{one.valid - plain.valid:+.4f}",
            )
        )
    header = (
        *("path", "dropout"),
        *(f"step {step}" for step in steps),
        *(f"farthest from plain until {step}" for step in ends),
        *("last 50 steps", "minus plain", "validation", "minus plain"),
    )
    write_section(
        "Loss curves: fast and plain paths",
        f"{measured_on()} `{RECIPE}`{' '.join(['', *options.settings])}, {options.steps} steps. "
        f"Distances are of means over {WIDE} steps, as in the picture.\n\n"
        f"{table(header, rows)}\n\n![curves](quality/curves.png)",
    )


if __name__ == "__main__":
    main()
