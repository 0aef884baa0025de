"""Where the time of a training step goes at tiny and base: the ten dearest operators.

    python -m benchmarks.speed.operators [--precision bfloat16] [--batches FILE]

By torch's profiler, over the batches that the peers dump (`benchmarks.speed.beside` leaves them),
or made ones of like lengths. The profiler itself takes time for each call, so small operators look
dearer than they are. Tables go to RESULTS.md.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.report import measured_on, table, write_section
from benchmarks.speed.jobs import BATCHES
from benchmarks.speed.train import DROPOUT, VOCAB, Batch, load, make_model, stepper

from regard.nn import backend

TOP = 10
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_linear_pointwise")
TOKENS, LENGTHS = 4096, (10, 12, 14, 16, 19, 24)
"""Of made batches: source and target tokens, and the sources' longest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--batches", type=Path, default=Path(BATCHES))
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    backend.keep_heap()
    torch.manual_seed(0)
    there = options.batches.exists()
    batches = load(options.batches) if there else made()
    body = [f"{measured_on()} {options.precision}, {'the peers’' if there else 'made'} batches."]
    for shape in DROPOUT:
        body.append(described(shape, batches, options))
        print(body[-1], flush=True)
    write_section("Where a training step's time goes", "\n\n".join(body))


def made() -> list[Batch]:
    """Batches of sentences of nearly one length, as sorting by length makes them."""
    batches = []
    for length in LENGTHS:
        rows = TOKENS // (2 * length)
        batch = {}
        for side, longest in (("source", length), ("target", length + 1)):
            real = torch.randint(longest - 2, longest + 1, (rows, 1))
            batch[f"{side}_ids"] = torch.randint(4, VOCAB, (rows, longest))
            batch[f"{side}_mask"] = torch.arange(longest) < real
        batches.append(batch)
    return batches


def described(shape: str, batches: list[Batch], options: Namespace) -> str:
    """The table of a shape."""
    settings = {"attention_dropout": 0.0, "checkpointing": False}
    step = stepper(make_model(Namespace(shape=shape, **settings)), options.precision)
    for batch in batches:
        step(batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        for _ in range(options.passes):
            for batch in batches:
                step(batch)
    steps = options.passes * len(batches)
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)

    def line(name: str, held: Sequence[Any]) -> Sequence[str]:
        share = sum(event.self_cpu_time_total for event in held) / total
        return name, f"{share:.1%}", f"{sum(event.count for event in held) / steps:,.0f}"

    rows = [line(f"`{event.key}`", [event]) for event in events[:TOP]]
    rows.append(line("all others", events[TOP:]))
    products = [event for event in events if event.key.rpartition(":")[2] in PRODUCTS]
    rows.append(line("all matrix products together", products))
    header = (
        f"{shape}, {total / steps / 1000:,.0f} ms a step",
        "share of the time",
        "calls a step",
    )
    return table(header, rows)


if __name__ == "__main__":
    main()
