"""What the journeys share: small files, a small recipe, processes that can be killed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regard import corpora

SIZES = {"train": 300, "valid": 40, "test": 40}

RECIPE = """\
task = "translation"

[data]
train = { source = "train.source", target = "train.target" }
valid = { source = "valid.source", target = "valid.target" }
test = { source = "test.source", target = "test.target" }

[tokenizer]
kind = "words"

[model]
preset = "tiny"
d_model = 16
num_layers = 1
layer.attention.num_heads = 2
layer.feed_forward.d_ff = 32

[training]
max_steps = 12
batch_tokens = 400
precision = "float32"
threads = 1
schedule = { peak = 0.01, warmup_steps = 4 }
checkpoint = { every_steps = 4, keep = 3 }

[evaluation]
every_steps = 6
samples = 1
"""


def write_files(directory: Path) -> None:
    """Pairs of digits to be copied, and a recipe for them."""
    for split, pairs in corpora.make("copy-digits", size=1000).splits().items():
        for side, place in (("source", 0), ("target", 1)):
            lines = [pair[place] + "\n" for pair in pairs[: SIZES[split]]]
            (directory / f"{split}.{side}").write_text("".join(lines), encoding="utf-8")
    (directory / "tiny.toml").write_text(RECIPE, encoding="utf-8")


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}"


def bits(run: Path, step: int = 12) -> str:
    """The checksum of the weights after a step."""
    return hashlib.sha256((checkpoint(run, step) / "model.safetensors").read_bytes()).hexdigest()


def metrics(run: Path) -> list[dict[str, object]]:
    """The lines of metrics, without what the clock says."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("seconds", None)
        line.pop("tokens_per_second", None)
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, locks apart."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


TRAIN = ["train", "tiny.toml", "--run", "run"]


def check_same(call: Any, run: Path, unkilled: Path) -> str:
    """Go on; the run ends in the bits of the unkilled one. What it printed."""
    done = call(*TRAIN, "--resume")
    assert done.returncode == 0, done.stderr
    assert bits(run) == bits(unkilled)
    assert metrics(run) == metrics(unkilled)
    assert json.loads((run / "best").read_text()) == json.loads((unkilled / "best").read_text())
    names = {path.name for path in (run / "checkpoints").glob("[!d]*")}  # not damaged-…
    assert names == {path.name for path in (unkilled / "checkpoints").iterdir()}
    return str(done.stderr)


class Server:
    """Forks `regard` processes from one that has imported torch: importing takes seconds."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, **order: object) -> int | None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: int | None = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Process:
    """One `regard` process; ``log`` holds both of its outputs.

    Args:
        words: the command line.
        options: ``cwd``; ``env``; ``step_pause`` and ``save_pause``, seconds of sleep at each step
            and at each file of a checkpoint; ``file_limit``, the most bytes of a file;
            ``obey_rights``, also as root.
    """

    count = 0

    def __init__(self, server: Server, *words: object, cwd: Path, **options: object) -> None:
        Process.count += 1
        self.server, self.log = server, cwd / f"process-{Process.count}.log"
        self.status: int | None = None
        argv = [str(word) for word in words]
        self.pid = server.ask(start=argv, output=str(self.log), cwd=str(cwd), **options)

    def poll(self) -> int | None:
        if self.status is None:
            self.status = self.server.ask(poll=self.pid)
        return self.status

    def wait(self) -> int | None:
        if self.status is None:
            self.status = self.server.ask(wait=self.pid)
        return self.status

    def send(self, number: int) -> None:
        assert self.pid
        os.kill(self.pid, number)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def until(self, ready: Callable[[], bool], seconds: float = 120.0) -> None:
        """Wait while the process works."""
        limit = time.monotonic() + seconds
        while not ready():
            assert self.poll() is None, self.output()
            assert time.monotonic() < limit, self.output()
            time.sleep(0.005)
