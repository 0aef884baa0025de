"""The recipes of small tasks over seeds: CoLA, MRPC, RTE, WNUT-17 and XQuAD, with training times.

    python -m benchmarks.quality.small --data DIR --runs DIR [--seeds 1 2 3] [--tasks cola …]

``--data`` holds ``glue/``, ``ner_wnut17/`` and ``qa_xquad/`` as published. XQuAD is trained twice:
from random weights and, where ``--pretrained RUN`` names a masked language model, from its weights.
What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.quality.xquad_split import split
from benchmarks.report import existing, measured_on, table, write_section

import regard


@dataclass(frozen=True)
class Small:
    """A recipe, its files, and the scores that are told of it."""

    recipe: str
    files: dict[str, str]
    scores: tuple[str, ...]


TASKS = {
    "cola": Small(
        "cola",
        {"train": "glue/cola/in_domain_train.tsv.gz", "valid": "glue/cola/in_domain_dev.tsv.gz"},
        ("matthews", "accuracy"),
    ),
    "mrpc": Small(
        "mrpc",
        {
            "train": "glue/mrpc/train.tsv.gz",
            "valid": "glue/mrpc/dev.tsv.gz",
            "test": "glue/mrpc/test.tsv.gz",
        },
        ("f1", "accuracy"),
    ),
    "rte": Small(
        "rte", {"train": "glue/rte/train.tsv.gz", "valid": "glue/rte/dev.tsv.gz"}, ("accuracy",)
    ),
    "wnut17": Small(
        "wnut17",
        {
            "train": "ner_wnut17/wnut17train.conll.gz",
            "valid": "ner_wnut17/emerging.dev.conll.gz",
            "test": "ner_wnut17/emerging.test.annotated.gz",
        },
        ("f1", "accuracy"),
    ),
    "xquad": Small("xquad", {}, ("f1", "exact_match")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pretrained", type=existing, help="a masked language model, for XQuAD")
    options = parser.parse_args()
    rows = []
    for name in options.tasks:
        rows.append(row(name, options, None))
        if name == "xquad" and options.pretrained:
            rows.append(row(name, options, options.pretrained))
    header = ("task", "seeds", "validation", "test", "minutes a seed")
    said = f"{measured_on(options.threads)} Mean ± standard deviation."
    write_section("Small tasks from random weights", f"{said}\n\n{table(header, rows)}")


def row(name: str, options: argparse.Namespace, start: Path | None) -> Sequence[str]:
    """A task's scores over the seeds."""
    task = TASKS[name]
    files = {split: str(options.data / file) for split, file in task.files.items()}
    if name == "xquad":
        files = xquad(options)
    found = [one(task, files, seed, options, start) for seed in options.seeds]
    title = f"`{name}`" + (f" from {start.name}" if start else "")
    minutes = f"{mean(each['minutes'] for each in found):.1f}"
    told = [spread(task, [each.get(split) for each in found]) for split in ("valid", "test")]
    return (title, " ".join(map(str, options.seeds)), *told, minutes)


def one(
    task: Small, files: dict[str, str], seed: int, options: argparse.Namespace, start: Path | None
) -> dict[str, Any]:
    """A seed's scores and minutes, from its file if they are known."""
    name = f"{task.recipe}-{'tuned' if start else 'scratch'}-{seed}"
    kept = options.runs / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    settings: dict[str, Any] = {f"data.{split}.file": file for split, file in files.items()}
    settings |= {"training.seed": seed, "training.threads": options.threads}
    recipe = regard.Recipe.load(task.recipe)
    if start:  # its size and its tokenizer come with the weights
        told = {key: value for key, value in recipe.settings().items() if key != "tokenizer"}
        recipe = regard.Recipe.from_settings({**told, "model": {"start_from": str(start)}})
    begun = time.perf_counter()
    run = regard.train(recipe, settings, run=options.runs / name, resume=True).path
    made: dict[str, Any] = {"minutes": (time.perf_counter() - begun) / 60}
    for which in set(files) - {"train"}:
        scores = regard.evaluate(run, {"file": files[which]}).scores
        made[which] = {key: scores[key].value for key in task.scores}
    kept.write_text(json.dumps(made))
    print(name, made, flush=True)
    return made


def spread(task: Small, found: Sequence[dict[str, float] | None]) -> str:
    """Mean and standard deviation of each score."""
    if None in found:
        return ""
    told = []
    for key in task.scores:
        values = [each[key] for each in found if each is not None]
        deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        told.append(f"{key.replace('_', ' ')} {mean(values):.1f}{deviation}")
    return ", ".join(told)


def xquad(options: argparse.Namespace) -> dict[str, str]:
    """The three files of the split."""
    place = options.runs / "xquad"
    place.mkdir(parents=True, exist_ok=True)
    split(options.data / "qa_xquad" / "xquad.en.json.gz", place)
    return {name: str(place / f"{name}.json") for name in ("train", "valid", "test")}


if __name__ == "__main__":
    main()
