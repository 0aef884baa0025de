"""Relative positions against sinusoids at equal settings: SCAN's splits, and Multi30k.

    python -m benchmarks.quality.positions --data DIR --runs DIR [--steps 6000] [--seeds 1 2 3]
        [--sets simple length length-26 add-jump multi30k] [--kinds sinusoidal shaw]

``--data`` holds ``scan/`` and ``multi30k/`` as published. The recipes are `scan` and
`multi30k-en-de-tokenized`; only ``model.positions`` differs. What is done already is not done
again, and a run that was stopped goes on.

SCAN's length split trains on at most 22 actions. Cut anew at 26 (Newman et al. 2020), all 20,910
commands of SCAN, which simple and length split each in their way, are trained on where they have
at most 26 actions and tested on where they have more. There is no end-of-sequence oracle: an answer
is right if it is all of the actions and ends there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.report import existing, measured_on, table, write_section

import regard

KINDS: dict[str, Any] = {
    "sinusoidal": "sinusoidal",
    "shaw": {"kind": "shaw", "clip": 16},
    "alibi": "alibi",
    "rotary": "rotary",
}
SCAN = {"simple": "simple", "length": "length", "add-jump": "addprim_jump"}
"""The published splits, and what their files are called."""

CUT = 26
SETS = ("simple", "length", f"length-{CUT}", "add-jump", "multi30k")
Pairs = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["sinusoidal", "shaw"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = [row(name, options) for name in options.sets]
    header = ("data", "trained on", "tested on", "score", *options.kinds, "minutes a run")
    write_section("Relative positions", f"{said(options)}\n\n{table(header, rows)}")


def row(name: str, options: argparse.Namespace) -> Sequence[str]:
    """Each kind's scores over the seeds, on one of the sets."""
    files = multi30k(options.data) if name == "multi30k" else scan(name, options)
    found = {
        kind: [one(name, kind, files, seed, options) for seed in options.seeds]
        for kind in options.kinds
    }
    flat = [result for results in found.values() for result in results]
    counts = [f"{flat[0][which]:,}" for which in ("train", "test")]
    told = [spread([each["score"] for each in results]) for results in found.values()]
    minutes = ", ".join(
        f"{mean(each['minutes'] for each in results):.1f}" for results in found.values()
    )
    return (name, *counts, flat[0]["metric"], *told, minutes)


def one(
    name: str, kind: str, files: dict[str, str], seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The score of one run, from its file if it is known."""
    path = options.runs / f"positions-{name}-{kind}-{seed}"
    kept = path.with_suffix(".json")
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    settings: dict[str, Any] = {
        **files,
        "data.cache": str(options.runs / "positions-data"),
        "model.positions": KINDS[kind],
        "training.max_steps": options.steps,
        "training.seed": seed,
        "training.threads": options.threads,
    }
    recipe = "multi30k-en-de-tokenized" if name == "multi30k" else "scan"
    metric = "bleu" if name == "multi30k" else "exact_match"
    begun = time.perf_counter()
    run = regard.train(recipe, settings, run=path, resume=True)
    if run.result is not None and run.result.reason in ("interrupt", "terminate"):
        raise SystemExit(f"{path} was stopped; the same command goes on")
    minutes = (time.perf_counter() - begun) / 60
    made = {
        "metric": metric.replace("_", " "),
        "score": regard.evaluate(run.path).scores[metric].value,
        "minutes": minutes,
        "train": count(files["data.train.source"]),
        "test": count(files["data.test.source"]),
    }
    kept.write_text(json.dumps(made))
    print(path.name, made, flush=True)
    return made


def multi30k(data: Path) -> dict[str, str]:
    """The published setting's files."""
    return {
        f"data.{split}.{side}": str(data / "multi30k" / "tok_bpe" / f"{name}.{language}.gz")
        for split, name in (("train", "train"), ("valid", "valid"), ("test", "test.2016"))
        for side, language in (("source", "en"), ("target", "de"))
    }


def scan(name: str, options: argparse.Namespace) -> dict[str, str]:
    """A split of SCAN, written as files of commands and of actions."""
    place = options.runs / "positions-scan" / name
    place.mkdir(parents=True, exist_ok=True)
    files = {}
    for part, pairs in zip(("train", "test"), splits(name, options.data / "scan"), strict=True):
        for side, texts in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
            path = place / f"{part}.{side}"
            path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
            files[f"data.{part}.{side}"] = str(path)
    return files


def splits(name: str, data: Path) -> tuple[Pairs, Pairs]:
    """What a split trains on and what it tests on."""
    if name in SCAN:
        train, test = (read(data, part, SCAN[name]) for part in ("train", "test"))
        return train, test
    every = [*read(data, "train", "simple"), *read(data, "test", "simple")]
    other = [*read(data, "train", "length"), *read(data, "test", "length")]
    assert sorted(every) == sorted(other), "simple and length hold the same commands"
    short = [pair for pair in every if len(pair[1].split()) <= CUT]
    return short, [pair for pair in every if len(pair[1].split()) > CUT]


def read(data: Path, part: str, name: str) -> Pairs:
    """Commands and actions, of lines ``IN: … OUT: …``."""
    text = gzip.decompress((data / f"tasks_{part}_{name}.txt.gz").read_bytes()).decode()
    halves = [line.removeprefix("IN: ").partition(" OUT: ") for line in text.splitlines()]
    return [(command, actions) for command, _, actions in halves]


def count(path: str) -> int:
    """Lines of a file, packed or not."""
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rb") as file:
        return sum(1 for _ in file)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, and each seed's."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"**{mean(values):.2f}** ± {stdev(values):.2f} ({each})"


def said(options: argparse.Namespace) -> str:
    clip = KINDS["shaw"]["clip"]
    return (
        f"{measured_on()} {options.threads} thread(s) a run; at most {options.steps:,} steps; "
        f"seeds {', '.join(map(str, options.seeds))}; mean ± standard deviation; minutes since a "
        "run's last start. Shaw's tables are "
        f"clipped at {clip}, for keys and values. SCAN: 3 + 3 layers, d_model 128 (recipe `scan`), "
        "the last weights, greedy search, **no end-of-sequence oracle**: an answer is right if it "
        f"is all of the actions and ends there. `length-{CUT}` is the length split cut anew: of "
        f"all commands, those of at most {CUT} actions are trained on and the others tested on "
        "(the standard cutoff of `length` is 22). Multi30k: `multi30k-en-de-tokenized`, which "
        "may end earlier by patience; tokenized BLEU on test2016."
    )


if __name__ == "__main__":
    main()
