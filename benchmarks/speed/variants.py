"""Time regard's own settings of a training step in turn.

    python -m benchmarks.speed.variants --batches FILE [--shape base] [--rounds 5]

FILE is what the peers' ``--dump-batches`` writes (`benchmarks.speed.beside` leaves one). A window
is a process of its own, so that a peak of memory is one setting's. The table goes to RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import existing, measured_on, table, write_section
from benchmarks.speed.jobs import BATCHES

HERE = Path(__file__).parent
VARIANTS = {
    "bfloat16": "--precision bfloat16",
    "bfloat16, dropout 0.1 on attention too": "--precision bfloat16 --attention-dropout 0.1",
    "bfloat16, gradient checkpointing": "--precision bfloat16 --checkpointing",
    "bfloat16, freed memory given back": "--precision bfloat16 --give-back",
    "float32": "--precision float32",
    "float32, gradient checkpointing": "--precision float32 --checkpointing",
    "float32, freed memory given back": "--precision float32 --give-back",
}
Found = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=existing, default=BATCHES)
    parser.add_argument("--shape", choices=("tiny", "base"), default="base")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[Found]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, arguments in VARIANTS.items():
            found[name].append(measure(arguments, options))
    held = {name: measure(f"{arguments} --held", options) for name, arguments in VARIANTS.items()}
    for name, one in held.items():
        found[name][0] |= one
    body = [measured_on(), f"{options.rounds} windows each in turn.", ""]
    body += [table(HEADER, [row(name, held, found) for name, held in found.items()])]
    write_section(f"A training step's settings and memory, {options.shape}", "\n".join(body))


HEADER = (
    "setting",
    "real tokens/s (min–max)",
    "beside the precision's first row",
    "share of products' peak",
    "peak memory, MiB",
    "activations, MiB",
    "beside the first row",
)


def measure(arguments: str, options: argparse.Namespace) -> Found:
    """One window of ours."""
    command = [sys.executable, str(HERE / "train.py"), "--shape", options.shape, "--share"]
    command += ["--batches", str(options.batches), "--seconds", "2", *arguments.split()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, held: Sequence[Found], found: dict[str, list[Found]]) -> Sequence[str]:
    """A setting beside the plain one of its precision; ratios within rounds."""
    first = found[name.partition(",")[0]]
    rates = [one["tokens_per_s"] for one in held]
    ratios = [
        one["tokens_per_s"] / base["tokens_per_s"] for one, base in zip(held, first, strict=False)
    ]
    extra, plain = held[0]["held_mib"], first[0]["held_mib"]
    return (
        name,
        f"{statistics.median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f})",
        f"{statistics.median(ratios):.2f}",
        f"{statistics.median(one['share_of_products'] for one in held):.0%}",
        f"{statistics.median(one['peak_mib'] for one in held):,.0f}",
        f"{extra:,.0f}",
        f"{extra / plain:.2f}",
    )


if __name__ == "__main__":
    main()
