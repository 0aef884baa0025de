"""Law: killed at any instant and resumed, a run ends in the same bits as the unkilled one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "toy_run.py"
STEPS = 60
OPTIONS = [f"max_steps={STEPS}", "every_steps=10", "evaluate_every=15", "width=96", "ema=0.9"]


class Server:
    """Forks training processes from one that has imported torch."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "serve"],
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
        return json.loads(self.process.stdout.readline())


class Child:
    """One training process."""

    def __init__(self, server: Server, run: Path, *words: str) -> None:
        self.server, self.log = server, run.with_suffix(".out")
        self.status: int | None = None
        argv = [str(run), *OPTIONS, *words]
        self.pid = server.ask(start=argv, output=str(self.log))

    def poll(self) -> int | None:
        if self.status is None:
            self.status = self.server.ask(poll=self.pid)
        return self.status

    def wait(self) -> int | None:
        if self.status is None:
            self.status = self.server.ask(wait=self.pid)
        return self.status

    def send(self, number: signal.Signals) -> None:
        assert self.pid
        os.kill(self.pid, number)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    assert made.process.stdin
    assert made.process.stdout
    made.process.stdin.close()
    made.process.wait()
    made.process.stdout.close()


def finish(server: Server, run: Path, *words: str) -> str:
    child = Child(server, run, *words)
    assert child.wait() == 0, child.log.read_text()
    return child.log.read_text()


def bits(run: Path, step: int = STEPS) -> dict[str, str]:
    """Checksums of the weights, the optimiser, the average and the generators at a step."""
    there = sorted((run / "checkpoints" / f"step-{step:06d}").glob("*.safetensors"))
    assert there
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there}


def metrics(run: Path) -> list[dict[str, object]]:
    """The lines of metrics, without what the clock says."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("seconds", None)
        line.pop("tokens_per_second", None)
    return found


def kill_when(child: Child, ready: Callable[[], bool]) -> bool:
    """Send SIGKILL as soon as ``ready``; whether the process was still alive."""
    limit = time.monotonic() + 60
    count = 0
    while not ready():
        count += 1
        if count % 1000 == 0 and child.poll() is not None:
            break
        assert time.monotonic() < limit
    if child.poll() is None:
        child.send(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def wait_for(child: Child, ready: Callable[[], bool]) -> None:
    while not ready():
        assert child.poll() is None, child.log.read_text()
        time.sleep(0.01)


def has_line(run: Path, text: str) -> bool:
    path = run / "metrics.jsonl"
    return path.exists() and text in path.read_text()


@pytest.fixture(scope="module")
def unkilled(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("resume") / "unkilled"
    finish(server, run)
    return run


def check_same(server: Server, run: Path, unkilled: Path) -> None:
    finish(server, run, "resume")
    assert bits(run) == bits(unkilled)
    assert metrics(run) == metrics(unkilled)
    assert json.loads((run / "best").read_text()) == json.loads((unkilled / "best").read_text())
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (unkilled / "checkpoints").iterdir())


def test_killed_before_the_first_checkpoint(server: Server, unkilled: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = Child(server, run, "pause=0.01")
    assert kill_when(process, (run / "metrics.jsonl").exists)
    assert not (run / "checkpoints").exists()
    check_same(server, run, unkilled)


def test_killed_while_a_checkpoint_is_written(
    server: Server, unkilled: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = Child(server, run)
    half = run / "checkpoints" / ".step-000030"
    caught = kill_when(process, half.exists)
    assert caught
    check_same(server, run, unkilled)


def test_killed_between_checkpoints(server: Server, unkilled: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = Child(server, run, "pause=0.01")
    assert kill_when(process, lambda: has_line(run, '"step": 37,'))
    assert not (run / "checkpoints" / f"step-{STEPS:06d}").exists()
    check_same(server, run, unkilled)


@pytest.mark.slow
@pytest.mark.parametrize("instant", range(25))
def test_killed_at_any_instant(
    server: Server, unkilled: Path, tmp_path: Path, instant: int
) -> None:
    """Every third one while a checkpoint is written; killed twice before it is let through."""
    run = tmp_path / "run"
    chance = random.Random(instant)
    words: list[str] = []
    for _ in range(2):
        process = Child(server, run, *words, "pause=0.005")
        words = ["resume"]
        if instant % 3 == 0:
            step = chance.choice(range(10, STEPS + 1, 10))
            half = run / "checkpoints" / f".step-{step:06d}"
            delay = chance.random() * 0.004

            def ready(half: Path = half, delay: float = delay) -> bool:
                if half.exists():
                    time.sleep(delay)
                    return True
                return False
        else:
            until = time.monotonic() + 0.1 + 1.2 * chance.random()

            def ready(until: float = until) -> bool:
                return time.monotonic() > until

        kill_when(process, ready)
    check_same(server, run, unkilled)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_signals_save_and_leave(
    server: Server, unkilled: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    run = tmp_path / "run"
    process = Child(server, run, "pause=0.02")
    wait_for(process, lambda: has_line(run, '"step": 13,'))
    process.send(number)
    assert process.wait() == status, process.log.read_text()
    newest = sorted((run / "checkpoints").iterdir())[-1]
    assert 13 <= int(newest.name.removeprefix("step-")) < 30
    check_same(server, run, unkilled)


def test_a_full_disk_loses_nothing(server: Server, unkilled: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    child = Child(server, run, "full_after=25")
    assert child.wait() == 2
    output = child.log.read_text()
    assert "step-000030: cannot be written" in output
    assert "intact: step-000010, step-000015, step-000020" in output
    assert not list((run / "checkpoints").glob(".*"))
    check_same(server, run, unkilled)


def test_a_finished_run_returns_at_once(server: Server, unkilled: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (unkilled / "checkpoints").rglob("*")}
    assert f"finished {STEPS}" in finish(server, unkilled, "resume")
    assert before == {
        path: path.stat().st_mtime_ns for path in (unkilled / "checkpoints").rglob("*")
    }


def test_resume_without_a_checkpoint_starts_and_says_so(
    server: Server, unkilled: Path, tmp_path: Path
) -> None:
    output = finish(server, tmp_path / "run", "resume")
    assert "starts at step 0" in output
    assert "no checkpoint to go on from" in output
    assert bits(tmp_path / "run") == bits(unkilled)


def test_a_second_process_is_refused(server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = Child(server, run, "pause=0.05")
    wait_for(first, (run / "metrics.jsonl").exists)
    (tmp_path / "other").symlink_to(run)
    second = Child(server, tmp_path / "other", "resume")
    assert second.wait() == 2
    assert "another process" in second.log.read_text()
    first.send(signal.SIGKILL)
    first.wait()
