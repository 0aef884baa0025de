"""Relative positions against sinusoids at equal settings: SCAN's splits, and Multi30k.

    python -m benchmarks.quality.positions --data DIR --runs DIR [--seeds 1 2 3]
        [--sets simple length length-26 add-jump multi30k] [--kinds sinusoidal shaw]
        [--set training.max_steps=6000 …]

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
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.quality.runs import scored
from benchmarks.report import existing, measured_on, table, write_section

CLIP = 16
KINDS = {
    "sinusoidal": "sinusoidal",
    "shaw": f"{{kind='shaw',clip={CLIP}}}",
    "alibi": "alibi",
    "rotary": "rotary",
}
SCAN = {"simple": "simple", "length": "length", "add-jump": "addprim_jump"}
"""The published splits, and what their files are called."""

CUT = 26
SETS = ("simple", "length", f"length-{CUT}", "add-jump", "multi30k")
Pairs = list[tuple[str, str]]

HEADER = ("data", "trained on", "tested on", "steps", "score")
SCAN_SAID = (
    "3 + 3 layers, d_model 128 (recipe `scan`), the last weights, greedy search, **no "
    "end-of-sequence oracle**: an answer is right if it is all of the actions and ends there. "
    f"`length-{CUT}` is the length split cut anew: of all commands, those of at most {CUT} actions "
    "are trained on and the others tested on (the standard cutoff of `length` is 22)."
)
MULTI30K_SAID = (
    "`multi30k-en-de-tokenized`, which may end earlier by patience; tokenized BLEU on test2016."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["sinusoidal", "shaw"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for all runs")
    options = parser.parse_args()
    for title, sets, about in (
        ("SCAN", SETS[:-1], SCAN_SAID),
        ("Multi30k", SETS[-1:], MULTI30K_SAID),
    ):
        rows = [row(name, options) for name in sets if name in options.sets]
        if rows:
            header = (*HEADER, *options.kinds, "minutes of steps")
            body = f"{said(options)} {about}\n\n{table(header, rows)}"
            write_section(f"Relative positions: {title}", body)


def row(name: str, options: argparse.Namespace) -> Sequence[str]:
    """Each kind's scores over the seeds, on one of the sets."""
    files = multi30k(options.data) if name == "multi30k" else scan(name, options)
    metric = "bleu" if name == "multi30k" else "exact_match"
    found = {
        kind: [one(name, kind, seed, files, metric, options) for seed in options.seeds]
        for kind in options.kinds
    }
    counts = [f"{count(files[f'data.{part}.source']):,}" for part in ("train", "test")]
    told = [spread([each[metric] for each in results]) for results in found.values()]
    minutes = ", ".join(
        f"{mean(each['minutes'] for each in results):.1f}" for results in found.values()
    )
    steps = sorted({each["steps"] for results in found.values() for each in results})
    lengths = " to ".join(f"{each:,}" for each in sorted({steps[0], steps[-1]}))
    return (name, *counts, lengths, metric.replace("_", " "), *told, minutes)


def one(
    name: str,
    kind: str,
    seed: int,
    files: dict[str, str],
    metric: str,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The score of one run."""
    settings = [
        *(f"{key}={path}" for key, path in files.items()),
        f"data.cache={options.runs / 'positions-data'}",
        f"model.positions={KINDS[kind]}",
        *options.set,
        f"training.seed={seed}",
        f"training.threads={options.threads}",
    ]
    recipe = "multi30k-en-de-tokenized" if name == "multi30k" else "scan"
    return scored(recipe, settings, options.runs / f"positions-{name}-{kind}-{seed}", (metric,))


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
    more = f" {', '.join(options.set)}." if options.set else ""
    return (
        f"{measured_on(options.threads)}{more} Seeds {', '.join(map(str, options.seeds))}; mean ± "
        f"standard deviation. Shaw's tables are clipped at {CLIP}, for keys and values."
    )


if __name__ == "__main__":
    main()
