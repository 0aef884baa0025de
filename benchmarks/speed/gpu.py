"""Training and decoding on a GPU in bfloat16, compiled, beside nanoGPT and Hugging Face.

    python -m benchmarks.speed.gpu [--nanogpt DIR] [--device auto] [--no-compile] [--quick]

GPT-2 (124M) and the Transformer, base and big: tokens a second, and the share of the device's peak
that the model's own products make (its utilisation). Greedy generation at GPT-2's shape, beside
Hugging Face's static cache. Systems take turns in one process; one that is not installed, or has no
room, has a row that says so. ``--quick`` has small models and few steps, on any machine: it shows
that everything runs, and writes nothing.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from benchmarks.report import existing, measured_on, table, write_section
from benchmarks.speed import gpu_peers
from benchmarks.speed.gpu_sizes import (
    DECODING,
    QUICK_DECODING,
    QUICK_TRAINING,
    TRAINING,
    Batch,
    Place,
    Size,
    Step,
    Text,
)

from regard import registry
from regard.cost import cost
from regard.decoding import DecodingSpec, Request, continue_from
from regard.objectives import CrossEntropy, NextToken
from regard.training import foreach
from regard.training.adam import Adam
from regard.training.device import choose_device
from regard.training.precision import make_precision

PEAKS = {"A100": 312e12, "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12}
"""FLOP/s of dense bfloat16 products as published, by a part of the device's name."""

OURS, WARMUP = "regard", 3


@dataclass
class Timed:
    """A system in one case.

    Attributes:
        rates: tokens a second of each window.
        note: why there are none.
    """

    case: str
    name: str
    rates: list[float]
    flops: float = 0.0  # a token
    note: str = ""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--nanogpt", type=existing, help="a checkout of it")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="a window lasts at least this")
    parser.add_argument("--case", nargs="+", choices=(*TRAINING, *DECODING))
    options = parser.parse_args()
    if options.quick:
        options.windows, options.seconds = 2, 0.0
    torch.set_float32_matmul_precision("high")  # as nanoGPT has it
    place = Place(choose_device(options.device), not options.no_compile)
    peak = products(place.device, 512 if options.quick else 8192)
    found: list[Timed] = []
    for name, size in (QUICK_TRAINING if options.quick else TRAINING).items():
        if not options.case or name in options.case:
            systems = {OURS: train_ours, **gpu_peers.training(size, options.nanogpt)}
            found += in_turn(size.said, size, systems, place, options, flops_a_token(size))
    for name, text in (QUICK_DECODING if options.quick else DECODING).items():
        if not options.case or name in options.case:
            systems = {OURS: decode_ours, "transformers": gpu_peers.decode_gpt2}
            found += in_turn(text.said, text, systems, place, options)
    write(found, place, peak, options)


# Ours


def train_ours(size: Size, place: Place) -> Step:
    """Forward, backward, clip and fused AdamW, as the training loop makes them."""
    model: Any = registry.family(size.family).model(size.config()).to(place.device).train()
    objective = NextToken() if size.family == "gpt" else CrossEntropy(0.1)
    precision = make_precision("bfloat16", model)
    weights = list(precision.trained_weights.values())
    optimizer = Adam(
        [{"params": weights, "lr": 1e-4, "weight_decay": 0.01}],
        betas=(0.9, 0.95),
        eps=1e-8,
        decoupled=True,
    )
    if place.compile:
        model.features = torch.compile(model.features)
    batch = {name: held.to(place.device) for name, held in made(size).items()}

    def step() -> int:
        term = objective(model, batch)["loss"]
        precision.backward(term.sum / term.count)
        gradients = precision.gradients()
        norm = float(foreach.norms(gradients).norm())
        if norm > 1.0:
            foreach.scale(gradients, 1.0 / norm)
        precision.step(optimizer)
        return size.tokens

    return step


def made(size: Size) -> Batch:
    """Random ids, every row full."""
    ids = torch.randint(size.vocabulary, (size.rows, size.length + 1))
    if size.family == "gpt":
        return {"ids": ids}
    source = torch.randint(size.vocabulary, (size.rows, size.length))
    masks = {"source_mask": torch.ones_like(source).bool(), "target_mask": torch.ones_like(ids) > 0}
    return {"source_ids": source, "target_ids": ids, **masks}


@torch.inference_mode()
def decode_ours(text: Text, place: Place) -> Step:
    """Greedy, after a prompt, with the cache; the end of a text is forbidden."""
    config, end = text.size.config(), text.size.vocabulary - 1
    model: Any = registry.family("gpt").model(config).to(place.device, torch.bfloat16).eval()
    if place.compile:
        model.step = torch.compile(model.step)
    prompts = torch.randint(end, (text.size.rows, text.prompt), device=place.device)
    count = len(prompts)
    request = Request(
        end_id=end,
        limits=[text.new] * count,
        prefixes=[[]] * count,
        indices=list(range(count)),
        forbidden=(end,),
    )

    def step() -> int:
        with torch.inference_mode():
            state = model.start(count, width=1)
            found = continue_from(model, state, prompts, DecodingSpec(strategy="greedy"), request)
        return sum(len(row[0].tokens) for row in found)

    return step


# Timing


def in_turn(
    case: str,
    size: Any,
    systems: Mapping[str, Callable[[Any, Place], Step]],
    place: Place,
    options: argparse.Namespace,
    flops: float = 0.0,
) -> list[Timed]:
    """Build every system, then window after window of each in turn."""
    found, steps = [], {}
    for name, build in systems.items():
        torch.manual_seed(0)
        timed = Timed(case, name, [], flops)
        found.append(timed)
        try:
            steps[name] = warmed(build(size, place))
        except (ImportError, RuntimeError) as error:  # out of memory is one of the latter
            if name == OURS:
                raise
            timed.note = str(error).partition("\n")[0]
    for _ in range(options.windows):
        for timed in found:
            if timed.name in steps:
                timed.rates.append(window(steps[timed.name], place.device, options.seconds))
    for timed in found:
        said = timed.note or f"{timed.rate:,.0f} tokens/s"
        print(f"{case}, {timed.name}: {said}", flush=True)
    steps.clear()
    gc.collect()
    if place.device.type == "cuda":
        torch.cuda.empty_cache()
    torch.compiler.reset()
    return found


def warmed(step: Step) -> Step:
    for _ in range(WARMUP):
        step()
    return step


def window(step: Step, device: torch.device, least: float) -> float:
    """Tokens a second over whole steps that together take at least so many seconds."""
    tokens, seconds, count = 0, 0.0, 1
    while True:
        made, took = clocked(partial(several, step, count), device)
        tokens, seconds = tokens + made, seconds + took
        if seconds >= least:
            return tokens / seconds
        count = math.ceil(count * (least - seconds) / took)


def several(step: Step, count: int) -> int:
    return sum(step() for _ in range(count))


def clocked(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """What some work gives, and the seconds it takes, on a GPU by the GPU's own clock."""
    if device.type != "cuda":
        begun = time.perf_counter()
        return work(), time.perf_counter() - begun
    with torch.cuda.device(device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        made = work()
        last.record()
        last.synchronize()
        return made, first.elapsed_time(last) / 1e3


def products(device: torch.device, size: int, times: int = 20, windows: int = 5) -> float:
    """FLOP/s of square bfloat16 products; the best of a few windows."""
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)

    def work() -> None:
        for _ in range(times):
            one @ one

    work()
    return times * 2 * size**3 / min(clocked(work, device)[1] for _ in range(windows))


def flops_a_token(size: Size) -> float:
    """Forward and backward, of products alone; attention as if every token saw all."""
    found = cost(size.family, size.config(), lengths=(size.length,))
    return found.lengths[0].training / found.sides


# Report


def write(found: list[Timed], place: Place, peak: float, options: argparse.Namespace) -> None:
    name = "CPU"
    if place.device.type == "cuda":
        name = torch.cuda.get_device_name(place.device)
    published = next((value for part, value in PEAKS.items() if part in name), None)
    ours = {one.case: one.rate for one in found if one.name == OURS}
    rows = []
    for one in found:
        if not one.rates:
            rows.append((one.case, one.name, one.note, "", "", ""))
            continue
        spread = f"{min(one.rates):,.0f}–{max(one.rates):,.0f}"
        makes = one.rate * one.flops
        rows.append(
            (
                one.case,
                one.name,
                f"{one.rate:,.0f} ({spread})",
                f"{makes / peak:.0%}" if makes else "",
                f"{makes / published:.0%}" if makes and published else "",
                "" if one.name == OURS else f"**{ours[one.case] / one.rate:.2f}**",
            )
        )
    header = (
        *("case", "system", "tokens/s (min–max)"),
        *("of the peak measured", "of the peak published", "regard ×"),
    )
    how = "compiled" if place.compile else "not compiled"
    body = (
        f"{measured_on()} {name}, bfloat16, {how}; products of bfloat16 make {peak / 1e12:.1f} "
        f"TFLOP/s here. {options.windows} windows in turn.\n\n{table(header, rows)}"
    )
    print(body)
    if not options.quick:
        write_section(f"GPU: {name}", body)


if __name__ == "__main__":
    main()
