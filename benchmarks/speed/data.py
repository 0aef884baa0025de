"""Time what stands before a step: tokenizing, waiting for batches, the start on a large corpus.

    python -m benchmarks.speed.data [--lines 10_000_000] [--directory DIR] [--windows 5]

A corpus of so many pairs of lines is made of random words; DIR keeps it, with what is prepared of
it, for another call (none: all of it is removed). The tables go to RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.report import existing, measured_on, table, write_section

SIDES = ("source", "target")
RECIPE = "multi30k-en-de"
TYPES = 200_000
VALID = 1_000
TOKENIZED = 200_000
WARMUP, STEPS = 20, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--directory", type=existing)
    parser.add_argument("--windows", type=int, default=5)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = options.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        corpus = Corpus(directory, options.lines)
        corpus.make()
        body = [measured_on(), *starting(corpus)]
        body += tokenizing(corpus, options.windows)
        body += waiting(corpus)
    write_section("Data", "\n".join(body))


# A corpus


@dataclass(frozen=True)
class Corpus:
    """Pairs of lines of made words, as often as words of a language are (Zipf)."""

    directory: Path
    lines: int

    def file(self, split: str, side: str) -> Path:
        """Where one side of a split stands."""
        count = self.lines if split == "train" else VALID
        return self.directory / f"{split}-{count}.{side}"

    @property
    def settings(self) -> list[str]:
        """The recipe's lines that name it."""
        files = [
            f"data.{split}.{side}={self.file(split, side)}"
            for split in ("train", "valid")
            for side in SIDES
        ]
        return [*files, f"data.cache={self.directory / 'cache'}"]

    @property
    def megabytes(self) -> float:
        """Of both sides' text."""
        return sum(self.file("train", side).stat().st_size for side in SIDES) / 1e6

    def make(self) -> None:
        """Write what is not there yet."""
        if self.file("valid", SIDES[-1]).exists() and self.file("train", SIDES[-1]).exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(1)
        words = {side: made_words(random) for side in SIDES}
        for split, count in (("train", self.lines), ("valid", VALID)):
            with contextlib.ExitStack() as stack:
                files = {
                    side: stack.enter_context(self.file(split, side).open("w", encoding="utf-8"))
                    for side in SIDES
                }
                for first in range(0, count, 50_000):
                    sizes = lengths(random, min(50_000, count - first))
                    for side, file in files.items():
                        file.writelines(made_lines(random, words[side], sizes))


def made_words(random: np.random.Generator) -> list[str]:
    """Different words, the frequent ones short."""
    syllables = [a + b + c for a in "bdfghklmnprstvw" for b in "aeiou" for c in ("", "n")]
    words: dict[str, None] = {}
    while len(words) < TYPES:
        count = 1 + int(len(words) > 200) + int(random.integers(0, 3))
        words["".join(syllables[i] for i in random.integers(0, len(syllables), count))] = None
    return list(words)


def lengths(random: np.random.Generator, count: int) -> Any:
    """Words of each line, 13 on average, at most 80."""
    return np.clip(np.exp(random.normal(2.4, 0.6, count)).astype(np.int64), 1, 80)


def made_lines(random: np.random.Generator, words: Sequence[str], sizes: Any) -> Iterator[str]:
    """Lines of about these lengths."""
    sizes = np.maximum(sizes + np.round(random.normal(0, 0.15, len(sizes)) * sizes), 1).astype(int)
    ends = np.cumsum(sizes)
    ranks = np.exp(random.random(ends[-1]) * math.log(len(words))).astype(np.int64) - 1
    drawn = [words[i] for i in ranks.tolist()]
    for start, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
        yield " ".join(drawn[start:end]).capitalize() + ".\n"


# From the command to the first step


@dataclass
class Watched:
    """What a process said and held.

    Attributes:
        said: seconds after its start of each line on its standard error.
        peaks: of memory, MiB, by the name in ``/proc/PID/status``.
    """

    said: list[tuple[float, str]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)

    def when(self, part: str) -> float:
        """Seconds until a line that holds ``part``; NaN where there was none."""
        return next((seconds for seconds, line in self.said if part in line), math.nan)


def watch(command: Sequence[str]) -> Watched:
    """Run a command to its end."""
    found, begun = Watched(), time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        sampler = threading.Thread(target=sample_memory, args=(running, found.peaks))
        sampler.start()
        assert running.stderr is not None
        for line in running.stderr:
            found.said.append((time.perf_counter() - begun, line.rstrip()))
        running.wait()
        sampler.join()
    if running.returncode:
        raise SystemExit("\n".join(line for _, line in found.said))
    return found


def sample_memory(running: subprocess.Popen[str], peaks: dict[str, float]) -> None:
    """Look at a process fifty times a second; its own peak counts what falls between."""
    while running.poll() is None:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{running.pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in ("VmHWM", "RssAnon", "RssFile"):
                    peaks[name] = max(peaks.get(name, 0.0), int(value.split()[0]) / 1024)
        time.sleep(0.02)


def starting(corpus: Corpus) -> list[str]:
    """The command with nothing prepared, then a new run of the same data."""
    rows = []
    for name in ("nothing prepared", "prepared before"):
        run = corpus.directory / "run"
        shutil.rmtree(run, ignore_errors=True)
        if name == "nothing prepared":
            shutil.rmtree(corpus.directory / "cache", ignore_errors=True)
        program = str(Path(sys.executable).parent / "regard")
        command = [program, "train", RECIPE, *corpus.settings, "training.max_steps=1"]
        found = watch([*command, "--run", str(run)])
        preparing = found.when("preparing the data")
        learning = found.when("learning the tokenizer")
        ready = found.when("pairs to train on")
        rows.append(
            (
                name,
                f"{preparing - learning:,.1f}",
                f"{ready - preparing:,.1f}",
                f"**{found.when('step 1'):,.1f}**",
                *(f"{found.peaks[key]:,.0f}" for key in ("VmHWM", "RssAnon", "RssFile")),
            )
        )
    header = (
        f"`regard train`, {corpus.lines:,} pairs",
        "tokenizer, s",
        "preparing, s",
        "from the command to the end of the first step, s",
        "peak memory, MiB",
        "of it anonymous",
        "of it mapped files",
    )
    said = (
        f"{corpus.lines:,} pairs of lines of made words ({corpus.megabytes:,.0f} MB) under the "
        f"recipe `{RECIPE}`: start-up of Python and torch, both splits, the first evaluation and "
        "one step. Asked: prepared before, under 60 s and 1,024 MiB. (Peaks of the two kinds of "
        "memory need not fall together.)"
    )
    return [said, "", table(header, rows), ""]


# Tokenization


def tokenizing(corpus: Corpus, windows: int) -> list[str]:
    """regard's preparing beside the library alone, in turn, on the first lines."""
    from regard.data import ParallelText

    with tempfile.TemporaryDirectory(dir=corpus.directory) as folder:
        few = Corpus(Path(folder), min(TOKENIZED, corpus.lines))
        for side in SIDES:
            with corpus.file("train", side).open("rb") as whole:
                few.file("train", side).write_bytes(b"".join(islice(whole, few.lines)))
        source = ParallelText({side: few.file("train", side) for side in SIDES})
        file = corpus.directory / "run" / "tokenizer.json"
        ways: dict[str, Callable[[], float]] = {
            "regard: read, encode, filter, write": lambda: prepared(source, file, Path(folder)),
            "tokenizers: `encode_batch_fast`": lambda: bare(few, file, "encode_batch_fast"),
            "tokenizers: `encode_batch`": lambda: bare(few, file, "encode_batch"),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(windows):
            for name, way in ways.items():
                taken[name].append(way())
        ours, *_ = taken.values()
        rows = [
            (
                name,
                f"{2 * few.lines / statistics.median(held):,.0f}",
                f"{few.megabytes / statistics.median(held):,.1f}",
                f"**{statistics.median(b / a for a, b in zip(ours, held, strict=True)):.2f}**",
            )
            for name, held in taken.items()
        ]
    said = (
        f"Tokenizing the first {few.lines:,} pairs with that tokenizer on {threads()} threads, "
        f"{windows} windows in turn, medians. The library alone has all lines in memory and only "
        "gives lists of ids; a line of regard's is read, checked, encoded and written. Asked: 0.9."
    )
    header = ("what", "lines a second", "MB a second", "regard beside it")
    return [said, "", table(header, rows), ""]


def prepared(source: Any, tokenizer: Path, folder: Path) -> float:
    """Seconds of preparing, nothing known before."""
    from regard.data import load_tokenizer, prepare

    codec = load_tokenizer(tokenizer)
    cache = folder / "cache"
    begun = time.perf_counter()
    prepare(source, dict.fromkeys(SIDES, codec), cache=cache)
    seconds = time.perf_counter() - begun
    shutil.rmtree(cache)
    return seconds


def bare(corpus: Corpus, tokenizer: Path, method: str) -> float:
    """Seconds of the library alone on lines in memory."""
    from regard.data import load_tokenizer

    encode = getattr(load_tokenizer(tokenizer)._library, method)
    files = [corpus.file("train", side).read_text(encoding="utf-8") for side in SIDES]
    lines = list(chain.from_iterable(text.splitlines() for text in files))
    count, begun = 0, time.perf_counter()
    for first in range(0, len(lines), 8192):
        found = encode(lines[first : first + 8192], add_special_tokens=False)
        count += sum(len(one.ids) for one in found)
    assert count > len(lines)
    return time.perf_counter() - begun


def threads() -> int:
    """Of the library's and of torch's."""
    return len(os.sched_getaffinity(0))


# Waiting


class Timed:
    """A source of batches that knows how long it was waited for."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.source, name)
        if not callable(found):
            return found

        def timed(*given: Any) -> Any:
            begun = time.perf_counter()
            result = found(*given)
            self.seconds += time.perf_counter() - begun
            return result

        return timed


def waiting(corpus: Corpus) -> list[str]:
    """The share of wall time in which the loop waits for batches."""
    recipes: Mapping[str, list[str]] = {
        f"`{RECIPE}`": [RECIPE],
        f"`{RECIPE}`, training.workers=1": [RECIPE, "training.workers=1"],
        "`demo`": ["demo"],
        "`demo`, training.workers=1": ["demo", "training.workers=1"],
    }
    rows = [(name, *waited(corpus, recipe, more)) for name, (recipe, *more) in recipes.items()]
    said = (
        f"Steps {WARMUP + 1} to {WARMUP + STEPS} of runs on this corpus: the time in which the "
        "loop stands in its source of batches. Asked: below 2 %."
    )
    return [said, "", table(("recipe (tiny Transformer)", "ms a step", "waiting"), rows)]


def waited(corpus: Corpus, recipe: str, more: Sequence[str]) -> tuple[str, str]:
    """Milliseconds of a step, and the share of waiting."""
    from regard.training import train
    from regard.training.events import StepDone
    from regard.workflow import build_model, load_recipe, make_ready, with_width

    settings = [*corpus.settings, f"training.max_steps={WARMUP + STEPS}", *more]
    ready = make_ready(load_recipe(recipe, settings), corpus.directory / "run", print)
    model = build_model(ready.recipe, ready.task, ready.settings)
    source = Timed(ready.splits.train)
    at: dict[int, tuple[float, float]] = {}

    def take(event: Any) -> None:
        if isinstance(event, StepDone):
            at[event.step] = time.perf_counter(), source.seconds

    train(
        model,
        ready.task.objective(),
        source,
        with_width(ready.settings, model),
        listeners=[take],
    )
    source.close()
    wall, waits = (b - a for a, b in zip(at[WARMUP], at[WARMUP + STEPS], strict=True))
    return f"{1e3 * wall / STEPS:,.0f}", f"**{waits / wall:.2%}**"


if __name__ == "__main__":
    main()
