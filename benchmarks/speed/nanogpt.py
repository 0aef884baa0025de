"""Time regard's step at nanoGPT's GPU size beside nanoGPT's own, both in bfloat16.

    python -m benchmarks.speed.nanogpt NANOGPT [--rounds 3]

NANOGPT is a checkout. The peers' harness times nanoGPT in float32 alone; this is its `model.py`
under autocast, as its `train.py` does with ``dtype='bfloat16'``, with the fused AdamW. Each window
is a process of its own, in turn with ours. The table goes to RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.report import existing, measured_on, table, write_section

STEP = Path(__file__).with_name("step.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nanogpt", type=existing)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help="time nanoGPT's step and print its rate")
    options = parser.parse_args()
    if options.one:
        print(json.dumps({"tokens_per_s": nanogpt_rate(options.nanogpt)}))
        return
    theirs = [sys.executable, "-m", "benchmarks.speed.nanogpt", str(options.nanogpt), "--one"]
    ours = [sys.executable, str(STEP), "gpt-gpu", "--precision", "bfloat16"]
    rates = [(rate(theirs), rate(ours)) for _ in range(options.rounds)]
    write(rates)


def rate(command: list[str]) -> float:
    """What a script says of one window."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_s"])


def nanogpt_rate(checkout: Path, length: int = 256, count: int = 64, vocabulary: int = 65) -> float:
    """Tokens a second of nanoGPT's GPU size."""
    torch.set_num_threads(2)
    spec: Any = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": length, "dropout": 0.2}
    with contextlib.redirect_stdout(io.StringIO()):
        model = module.GPT(module.GPTConfig(vocab_size=vocabulary, bias=False, **sizes)).train()
        optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cuda")  # asks for fused
    ids = torch.randint(vocabulary, (count, length + 1))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            _, loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(2):
        step()
    begun = time.perf_counter()
    for _ in range(2):
        step()
    return 2 * count * length / (time.perf_counter() - begun)


def write(rates: list[tuple[float, float]]) -> None:
    """The table."""
    theirs, ours = (statistics.median(column) for column in zip(*rates, strict=True))
    ratios = [mine / other for other, mine in rates]
    cells = (
        f"{theirs:,.0f}",
        f"{ours:,.0f}",
        f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})",
    )
    head = ("nanoGPT, autocast, tokens/s", "regard, bfloat16", "ratio (min–max)")
    title = "nanoGPT's GPU size in bfloat16 on both sides"
    write_section(title, f"{measured_on()}\n\n{table(head, [cells])}")


if __name__ == "__main__":
    main()
