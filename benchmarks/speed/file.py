"""A whole file by `regard translate` and by CTranslate2 called from Python, start-up included.

    python -m benchmarks.speed.file RUN [--python PEERS_PYTHON] [--windows 5] [--threads 2]

RUN is a finished translation run, the file the sources of its test data; PEERS_PYTHON has
ctranslate2 and tokenizers. Both have the run's weights and tokenizer, read a file of lines and
write one, in a process of its own. CTranslate2 has the threads, batches and number formats that
serve it best here. Start-up is the same command on one line, without which the rest is said apart.
Translations are compared line by line: in float32 they should be the same.

A run of the base size for it, hardly trained: its sentences get lengths like real ones by limits
that both obey (DATA as in the recipe's head):

    regard train multi30k-en-de-tokenized --run runs/base DATA model.preset=base \\
      decoding.min_length=12 decoding.max_length=18 \\
      model.embedding.dropout=0.1 model.layer.dropout=0.1 training.max_steps=107 \\
      training.accumulate=1 training.schedule.peak=0.0007 training.schedule.warmup_steps=200 \\
      training.checkpoint.average=0
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.report import existing, measured_on, table, write_section
from benchmarks.speed.file_ctranslate2 import Settings

from regard.interop.exported import write_tokenizer
from regard.load import Opened, open_task

THEIRS = Path(__file__).with_name("file_ctranslate2.py")
THEIR_LONGEST = 256  # where the recipe's limit is no number: CTranslate2's own
BATCHES = ((32, "examples"), (64, "examples"), (1024, "tokens"), (4096, "tokens"))
COMPUTES = ("float32", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=existing)
    parser.add_argument("--python", help="with ctranslate2; without it regard is timed alone")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", default="float32,bfloat16,int8", help="of both, by commas")
    options = parser.parse_args()
    opened = open_task(options.run, precision="float32")
    examples = opened.task.read(split="test")
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        one_file(room / "source.txt", examples.sources)
        one_file(room / "one.txt", examples.sources[:1])
        commands = dict(ours(options))
        if options.python:
            write_weights(opened, options.run, room / "weights")
            commands |= theirs(options, opened, room)
        times, outputs = timed(commands, room, options)
    write(options, opened, times, outputs, examples)


def one_file(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def searches(opened: Opened) -> dict[str, tuple[int, float, int, int]]:
    """Beam, length penalty, and both limits of the length, of the recipe's and of greedy search."""
    decoding = opened.task.recipe.decoding
    penalty, longest = decoding.length_penalty, decoding.max_length
    if penalty.kind != "power" and penalty.alpha:
        raise SystemExit("CTranslate2 divides scores by a power of the length alone")
    limits = (decoding.min_length, longest if isinstance(longest, int) else THEIR_LONGEST)
    return {"beam": (decoding.beam, penalty.alpha, *limits), "greedy": (1, 0.0, *limits)}


def ours(options: argparse.Namespace) -> Any:
    """regard's commands by search and name, without their files."""
    for search, precision in itertools.product(("beam", "greedy"), options.precisions.split(",")):
        command = [sys.executable, "-m", "regard", "translate", str(options.run)]
        command += ["--strategy", search, "--precision", precision]
        yield (search, f"regard, {precision}"), [*command, "-i", "{source}", "-o", "{output}"]


def write_weights(opened: Opened, run: Path, to: Path) -> None:
    """What CTranslate2's form of the model is made of."""
    to.mkdir()
    model, tokenizer = opened.model, opened.task.tokenizers["target"]
    config: Any = model.config
    layer = config.encoder.layer
    if config.tie != "all" or layer.feed_forward.kind != "plain" or layer.norm.kind != "layernorm":
        raise SystemExit(f"{run}: only plain layers with one matrix are put into their form here")
    every = torch.arange(config.max_positions)[None]
    nothing = torch.zeros(1, config.max_positions, config.d_model)
    tensors = {name: held.numpy() for name, held in model.state_dict().items()}
    tensors["positions"] = model.encoder.positions.add(nothing, every, 0)[0].numpy()
    np.savez(to / "weights.npz", **tensors)
    described = {
        "layers": (config.encoder.num_layers, config.decoder.num_layers),
        "heads": layer.attention.num_heads,
        "pre_norm": layer.norm_placement == "pre",
        "activation": layer.feed_forward.activation,
        "scale": config.embedding.scale,
        "vocabulary": list(tokenizer.vocabulary),
        **{role: tokenizer.vocabulary[getattr(tokenizer, f"{role}_id")] for role in MARKS},
        "continuation": opened.task.recipe.tokenizer.continuation,
    }
    (to / "model.json").write_text(json.dumps(described))
    write_tokenizer({"tokenizer.json": tokenizer}, "transformer", config, to)


MARKS = ("start", "end", "unk")


def theirs(options: argparse.Namespace, opened: Opened, room: Path) -> dict[Any, list[str]]:
    """CTranslate2's commands, with the settings that are fastest here."""
    python = [options.python, str(THEIRS)]
    commands = {}
    splits = {(1, options.threads), (options.threads, 1)}
    for compute in set(COMPUTES).intersection(options.precisions.split(",")):
        model = str(room / compute)
        run([*python, "convert", str(room / "weights"), model, compute], options.threads)
        for search, how in searches(opened).items():
            several = [
                Settings(compute, *split, *batch, *how)
                for split, batch in itertools.product(sorted(splits, reverse=True), BATCHES)
            ]
            written = [json.dumps(asdict(one)) for one in several]
            said = run([*python, "scout", model, str(room / "source.txt"), *written], None)
            seconds = [float(line) for line in said.split()]
            best = several[seconds.index(min(seconds))]
            print(search, best, f"{min(seconds):.2f} s of {[round(s, 2) for s in seconds]}")
            name = f"CTranslate2, {compute} ({best.inter} × {best.intra} threads, "
            name += f"batches of {best.batch} {best.by})"
            last = json.dumps(asdict(best))
            commands[search, name] = [*python, "translate", model, "{source}", "{output}", last]
    return commands


def run(command: Sequence[str], threads: int | None) -> str:
    """Its standard output; with so many threads, or as many as it asks for itself."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
    if "ctranslate2" in " ".join(command[:2]):
        environment.pop("PYTHONPATH", None)  # not that Python's
    elif threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    made = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return made.stdout


def timed(commands: dict[Any, list[str]], room: Path, options: argparse.Namespace) -> Any:
    """Seconds of the file and of one line, window after window in turn; and the last outputs."""
    times: dict[Any, dict[str, list[float]]] = {}
    outputs = {}
    output = room / "output.txt"
    for _ in range(options.windows + 1):  # the first warms the disk's cache, and is forgotten
        for key, command in commands.items():
            for source in ("source", "one"):
                output.unlink(missing_ok=True)
                files = {"{source}": str(room / f"{source}.txt"), "{output}": str(output)}
                begun = time.perf_counter()
                run([files.get(part, part) for part in command], options.threads)
                seconds = time.perf_counter() - begun
                times.setdefault(key, {}).setdefault(source, []).append(seconds)
                if source == "source":
                    outputs[key] = output.read_text(encoding="utf-8").splitlines()
    return times, outputs


def write(
    options: argparse.Namespace, opened: Opened, times: Any, outputs: Any, examples: Any
) -> None:
    whole = {key: statistics.median(held["source"][1:]) for key, held in times.items()}
    start = {key: statistics.median(held["one"][1:]) for key, held in times.items()}
    rows = []
    for key, lines in outputs.items():
        search, name = key
        peers = [one for one in times if one[0] == search and one[1].startswith("CTranslate2")]
        ratios = ["", ""]
        if peers and key not in peers:
            apart = min(whole[one] - start[one] for one in peers)
            ratios = [
                f"**{min(whole[one] for one in peers) / whole[key]:.2f}**",
                f"**{apart / (whole[key] - start[key]):.2f}**",
            ]
        exact = next((outputs[one] for one in peers if "float32" in one[1]), None)
        seconds = times[key]["source"][1:]
        rows.append(
            (
                f"beam {searches(opened)[search][0]}" if search == "beam" else search,
                name,
                f"{whole[key]:.2f} ({min(seconds):.2f}–{max(seconds):.2f})",
                f"{start[key]:.2f}",
                f"{whole[key] - start[key]:.2f}",
                *ratios,
                f"{opened.task.score(examples, lines).scores['bleu'].value:.2f}",
                "" if exact is None else sum(a != b for a, b in zip(lines, exact, strict=True)),
            )
        )
    header = (
        *("search", "system", "seconds, whole (min–max)", "one line", "the rest"),
        *("× CTranslate2's best", "the rest ×", "BLEU", "lines unlike its float32's"),
    )
    config: Any = opened.model.config
    size = f"d_model {config.d_model}, {config.encoder.num_layers}+{config.decoder.num_layers}"
    write_section(
        f"A whole file by the command line, d_model {config.d_model}",
        f"{measured_on()} {len(examples):,} lines by {options.run.name} ({size} layers), each in a "
        f"process of its own with {options.threads} threads, medians of {options.windows} in turn."
        f"\n\n{table(header, sorted(rows))}",
    )


if __name__ == "__main__":
    main()
