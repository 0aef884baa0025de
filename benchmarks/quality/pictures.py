"""MNIST, CIFAR-10 and BCCD by their recipes, from random weights; BCCD from CIFAR-10's run too.

    python -m benchmarks.quality.pictures --data DIR --runs DIR
        [--sets mnist cifar10 bccd bccd-after-cifar10] [--threads 2]
        [--set training.max_epochs=30 …] [--curve FILE.png]

``--data`` holds ``img_mnist/``, ``img_cifar10_jpeg/`` and ``det_bccd/``. A run that is there is
gone on with, one that is finished is only scored. A run after another's starts from its weights.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from statistics import mean

from benchmarks.quality.runs import events, scored
from benchmarks.report import existing, measured_on, save_picture, table, write_section

IDX = "img_mnist/{}-{}-idx{}-ubyte.gz"
FILES = {
    "mnist": {
        "data.train.source": IDX.format("train", "images", 3),
        "data.train.target": IDX.format("train", "labels", 1),
        "data.valid.source": IDX.format("t10k", "images", 3),
        "data.valid.target": IDX.format("t10k", "labels", 1),
    },
    "cifar10": {
        "data.train.file": "img_cifar10_jpeg/train.zip",
        "data.valid.file": "img_cifar10_jpeg/test.zip",
    },
    "bccd": {"data.train.file": "det_bccd/bccd.zip", "data.valid.file": "det_bccd/bccd.zip"},
}
AFTER = "-after-"
SETS = (*FILES, f"bccd{AFTER}cifar10")
SCORES = {
    "mnist": ("top1",),
    "cifar10": ("top1", "top5"),
    "bccd": ("ap50", "ap"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for all sets")
    parser.add_argument("--curve", type=Path, help="a PNG of the share of right answers in cifar10")
    options = parser.parse_args()
    rows = [row(name, options) for name in SETS if name in options.sets]
    if options.curve:
        draw(options.runs / "cifar10", options.curve)
    header = ("recipe", "parameters", "steps", "score", "minutes of steps")
    more = f", {' '.join(options.set)}" if options.set else ""
    said = f"{measured_on(options.threads)} Seed 1{more}."
    write_section("Small pictures", f"{said}\n\n{table(header, rows)}")


def row(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """A recipe's score."""
    recipe, _, before = name.partition(AFTER)
    settings = [f"{key}={options.data / file}" for key, file in FILES[recipe].items()]
    settings += [f"training.threads={options.threads}", *options.set]
    if before:
        settings.append(f"model.start_from={options.runs / before}")
    valid = "data.valid."  # only BCCD has a third part
    data = {
        key.removeprefix(valid): str(options.data / file)
        for key, file in FILES[recipe].items()
        if key.startswith(valid)
    }
    if recipe == "bccd":
        data["part"] = "test"
    found = scored(recipe, settings, options.runs / name, SCORES[recipe], data)
    told = ", ".join(f"{score} **{found[score]:.2f}**" for score in SCORES[recipe])
    return (
        f"`{recipe}`" + (f" from `{before}`" if before else ""),
        f"{found['parameters']:,}",
        f"{found['steps']:,}",
        told,
        f"{found['minutes']:.1f}",
    )


def draw(run: Path, path: Path) -> None:
    """The share of right answers over the steps, on validation and on changed training pictures."""
    import matplotlib.pyplot as plt

    found = events(run)
    scored_at = [event for event in found if event["event"] == "evaluation"]
    valid = {one["step"]: 100 - 100 * one["scores"]["error"] for one in scored_at}
    steps = [event for event in found if event["event"] == "step"]
    train = {
        last: mean(
            100 - 100 * one["terms"]["error"] for one in steps if first < one["step"] <= last
        )
        for first, last in pairwise(valid)
    }
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    axes.plot(list(valid), list(valid.values()), label="validation")
    axes.plot(list(train), list(train.values()), ":", label="training, pictures changed")
    axes.set_xlabel("step")
    axes.set_ylabel("right, %")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    save_picture(figure, path)


if __name__ == "__main__":
    main()
