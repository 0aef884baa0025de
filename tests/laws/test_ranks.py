"""Law: 2 ranks × accumulate 1 = 1 rank × accumulate 2, the short last window included.

Dropout is off, since ranks draw their own. Sums of two are the same in either order, so even the
bits agree.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).parent / "toy_run.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def call(command: list[str], run: Path, *words: str, status: int = 0) -> str:
    options = ["max_steps=10", "every_steps=4", "evaluate_every=4", "dropout=0.0"]
    done = subprocess.run(
        [*command, SCRIPT, str(run), *options, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert (done.returncode == 0) == (status == 0), done.stderr
    return done.stdout + done.stderr


def weights(run: Path) -> str:
    path = run / "checkpoints" / "step-000010" / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def figures(run: Path) -> list[tuple[object, ...]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("step", "terms", "scores", "tokens", "gradient_norm", "epoch")
    return [tuple(line.get(name) for name in names) for line in lines]


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_ranks_are_as_accumulation(tmp_path: Path, precision: str) -> None:
    words = [f'precision="{precision}"']
    call([sys.executable], tmp_path / "one", "accumulate=2", *words)
    output = call(TORCHRUN, tmp_path / "two", *words)
    assert "2 ranks" in output
    assert output.count("evaluation after step 0") == 1  # rank 0 alone speaks
    assert figures(tmp_path / "two") == figures(tmp_path / "one")
    assert weights(tmp_path / "two") == weights(tmp_path / "one")


@pytest.mark.slow
def test_ranks_go_on_together(tmp_path: Path) -> None:
    """Dropout on: every rank's generator is kept."""
    call(TORCHRUN, tmp_path / "whole", "dropout=0.2")
    call(TORCHRUN, tmp_path / "parts", "dropout=0.2", "max_steps=4")
    output = call(TORCHRUN, tmp_path / "parts", "dropout=0.2", "resume")
    assert "goes on after step 4" in output
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_a_second_run_is_refused_under_ranks_too(tmp_path: Path) -> None:
    call(TORCHRUN, tmp_path / "run", "max_steps=4")
    assert "files in this directory" in call(TORCHRUN, tmp_path / "run", status=2)


@pytest.mark.slow
def test_one_ranks_bad_loss_stops_all(tmp_path: Path) -> None:
    """Micro-batch 3 is rank 1's: both stop after step 1, before a weight is touched."""
    output = call(TORCHRUN, tmp_path / "run", "poisoned=3", status=2)
    assert "toy:30" in output
    assert "another rank: the loss of step 2 is not finite" in output
    assert not (tmp_path / "run" / "checkpoints").exists()
    call(TORCHRUN, tmp_path / "run", "resume")
