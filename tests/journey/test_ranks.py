"""``torchrun``: two ranks on a CPU give what one rank gives."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import regard
from regard.load import load

from ._made import Process, checkpoint, metrics

PLAIN = [
    "training.max_steps=8",
    "training.checkpoint.every_steps=8",
    "evaluation.every_steps=2",
    "model.layer.dropout=0",
    "model.embedding.dropout=0",
]


@pytest.fixture
def whole(files):
    """One rank that takes two micro-batches a step."""
    regard.train(files / "tiny.toml", [*PLAIN, "training.accumulate=2"], run=files / "whole")
    return files / "whole"


def check_same(split, whole):
    """Losses within 1e-5, weights close; everything that counts is equal."""
    ours, theirs = metrics(split), metrics(whole)
    assert [(line["event"], line["step"]) for line in ours] == [
        (line["event"], line["step"]) for line in theirs
    ]
    assert sum(line["event"] == "evaluation" for line in ours) == 5
    for one, other in zip(ours, theirs, strict=True):
        key = "scores" if one["event"] == "evaluation" else "terms"
        for name in ("loss", "nll"):
            assert one[key][name] == pytest.approx(other[key][name], rel=1e-5)
        if one["event"] == "step":
            assert (one["tokens"], one["rate"]) == (other["tokens"], other["rate"])
    ours, theirs = (load_file(checkpoint(run, 8) / "model.safetensors") for run in (split, whole))
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-4)
    assert load(split).translate(["1 2 3"], beam=1) == load(whole).translate(["1 2 3"], beam=1)


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def two_ranks(server, cwd, *words):
    """What torchrun does: two processes that find each other by their environment."""
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Process(server, *words, cwd=cwd, env={**common, "RANK": str(n), "LOCAL_RANK": str(n)})
        for n in range(2)
    ]


def test_two_ranks(server, call, files, whole):
    processes = two_ranks(server, files, "train", "tiny.toml", *PLAIN, "--run", "split")
    assert [process.wait() for process in processes] == [0, 0], processes[0].output()
    check_same(files / "split", whole)
    # One of them speaks.
    assert "2 ranks" in processes[0].output()
    assert processes[1].output() == ""

    # They go on together, and one alone can: with a warning.
    more = ["train", "split", "training.max_steps=10", "--resume"]
    processes = two_ranks(server, files, *more)
    assert [process.wait() for process in processes] == [0, 0], processes[0].output()
    assert "goes on after step 8 of 10" in processes[0].output()
    done = call(*more[:2], "training.max_steps=11", "--resume")
    assert done.returncode == 0, done.stderr
    assert "warning: ranks was 2 and is now 1" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.valid.source=no.source"], "no.source: there is no such file"),
        (["evaluation.metric=nothing"], "there is no score 'nothing'"),
        (["training.schedule.peak=1e30"], "is not finite"),
    ],
)
def test_an_error_ends_both(server, files, words, said):
    """Rank 0 says what is wrong; the other one is no bug either."""
    processes = two_ranks(server, files, "train", "tiny.toml", *PLAIN, *words, "--run", "split")
    assert [process.wait() for process in processes] == [2, 2], processes[1].output()
    assert said in processes[0].output()
    assert not any("Traceback" in process.output() for process in processes)


@pytest.mark.slow
def test_torchrun_itself(files, whole):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *(
                "--master-port",
                str(free_port()),
                "-m",
                "--",
                "regard",
                "train",
                "tiny.toml",
                *PLAIN,
            ),
            *("--run", "split"),
        ],
        cwd=files,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done: split") == 1
    check_same(files / "split", whole)
