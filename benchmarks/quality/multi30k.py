"""Multi30k English→German in the published setting: seeds trained, scored, written down.

    python -m benchmarks.quality.multi30k --data DIR --runs DIR --seeds 1 2 3

DIR of the data holds train, valid and test.2016 (.en.gz, .de.gz) as the tokenized recipe needs
them; with --raw the raw-text recipe is trained instead (train, val, test_2016_flickr). A seed that
is there already goes on where it stopped. The best seed is chosen on validation, never on test: by
the loss of the weights that are scored, and, said beside it, by their BLEU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.report import existing, measured_on, table, write_section

import regard
from regard.load import open_task
from regard.run import Run
from regard.training import validation_loss

SETTINGS = {
    False: (
        "multi30k-en-de-tokenized",
        ("train", "valid", "test.2016"),
        "Multi30k, published setting",
    ),
    True: ("multi30k-en-de", ("train", "val", "test_2016_flickr"), "Multi30k, raw text"),
}

PUBLISHED = {
    False: "Published in this setting: 41.02 (tokenized, lower-cased).",
    True: "There is no published figure of this setting.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--score-only", action="store_true", help="score the runs that are there")
    options = parser.parse_args()
    found = [one for seed in options.seeds if (one := seed_result(options, seed)) is not None]
    if found:
        write(options, found)


def seed_result(options: argparse.Namespace, seed: int) -> dict[str, Any] | None:
    recipe, _, _ = SETTINGS[options.raw]
    path = options.runs / f"{recipe}-seed{seed}"
    begun = time.perf_counter()
    if not options.score_only:
        regard.train(
            recipe,
            [*data_settings(options), f"training.seed={seed}", *options.set],
            run=path,
            resume=True,
            say=print,
        )
    elif not (path / "checkpoints").is_dir():
        return None
    minutes = (time.perf_counter() - begun) / 60
    report = regard.evaluate(path)
    task, model, _ = open_task(path)
    splits = task.prepare(path, lambda _: None)
    loss = validation_loss(model, task.objective(), splits.valid)["loss"]
    outputs = task.predict(model, examples := task.read())
    valid_bleu = task.score(examples, outputs).scores["bleu"].value
    bleu = report.scores["bleu"]
    evaluations = [line for line in Run.open(path).metrics() if line["event"] == "evaluation"]
    return {
        "seed": seed,
        "steps": evaluations[-1]["step"],
        "minutes": minutes,
        "loss": loss,
        "valid_bleu": valid_bleu,
        "bleu": bleu,
        "chrf": report.scores["chrf"],
        "seconds": report.seconds,
    }


def data_settings(options: argparse.Namespace) -> list[str]:
    _, names, _ = SETTINGS[options.raw]
    return [
        f"data.{split}.{side}={options.data / f'{name}.{language}.gz'}"
        for split, name in zip(("train", "valid", "test"), names, strict=True)
        for side, language in (("source", "en"), ("target", "de"))
    ]


def write(options: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    _, _, title = SETTINGS[options.raw]
    rows = [
        (
            one["seed"],
            one["steps"],
            f"{one['minutes']:.0f}" if not options.score_only else "",
            f"{one['loss']:.4f}",
            f"{one['valid_bleu']:.2f}",
            f"**{one['bleu'].value:.2f}**",
            f"{one['chrf'].value:.2f}",
            f"{one['seconds']:.1f}",
        )
        for one in found
    ]
    by_loss = min(found, key=lambda one: float(one["loss"]))
    by_bleu = max(found, key=lambda one: float(one["valid_bleu"]))
    mean = statistics.mean(one["bleu"].value for one in found)
    header = ("seed", "steps", "minutes", "valid loss", "valid BLEU", "test2016 BLEU", "chrF", "s")
    write_section(
        title,
        f"{measured_on()}\n\n{table(header, rows)}\n\nMean of {len(found)} seeds "
        f"**{mean:.2f}**. The seed best on validation: by the loss of the mean weights seed "
        f"{by_loss['seed']}, **{by_loss['bleu'].value:.2f}**; by their BLEU seed "
        f"{by_bleu['seed']}, **{by_bleu['bleu'].value:.2f}**. `{by_loss['bleu'].signature}`. "
        f"{PUBLISHED[options.raw]}",
    )


if __name__ == "__main__":
    main()
