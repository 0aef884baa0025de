"""A pretrained model fine-tuned with adapters: train, kill, resume, use, merge, hand out."""

import json
import shutil
import signal

import pytest
from safetensors.torch import load_file

import regard

from ._made import Process, bits, checkpoint, metrics
from .test_ranks import two_ranks

LINE = "abcdefghijklmnopqrstuvwxyz 0123456789.\n"
SMALL = {
    "model.d_model": 32,
    "model.num_layers": 2,
    "model.max_positions": 32,
    "model.layer.feed_forward.d_ff": 64,
    "training.batch_size": 8,
    "training.max_steps": 120,
    "training.schedule.peak": 0.01,
    "training.schedule.warmup_steps": 10,
    "training.precision": "float32",
    "training.threads": 1,
    "evaluation.every_steps": 120,
}
TUNE = [
    *("train", "shakespeare-char", "data.train.file=other.txt", "data.valid.file=other.txt"),
    *("model.start_from=base", "model.adapter={kind='lora', rank=2}", "training.max_steps=30"),
    *("training.schedule.peak=0.03", "training.schedule.warmup_steps=5", "training.batch_size=8"),
    *("training.precision=float32", "training.checkpoint.every_steps=10", "training.threads=1"),
    *("evaluation.every_steps=15", "evaluation.samples=0"),
]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A directory with a model that knows its line by heart, and the line backwards to learn."""
    directory = tmp_path_factory.mktemp("pretrained")
    (directory / "train.txt").write_text(LINE * 60)
    (directory / "other.txt").write_text((LINE[-2::-1] + "\n") * 40)
    data = {f"data.{split}.file": str(directory / "train.txt") for split in ("train", "valid")}
    regard.train("shakespeare-char", {**SMALL, **data}, run=directory / "base")
    return directory


@pytest.fixture
def folder(pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def tuned(pretrained, tmp_path_factory):
    """A run with adapters; tests must not change it."""
    directory = tmp_path_factory.mktemp("tuned")
    shutil.copytree(pretrained, directory, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        regard.train(TUNE[1], TUNE[2:], run="tuned")
    return directory / "tuned"


def loss_of(call, run):
    done = call("evaluate", run, "--data", "file=other.txt", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["scores"]["loss"]["value"]


def test_check(call, folder):
    done = call("check", *TUNE[1:], "training.layer_decay=0.5", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(row["seen"] == "trains: 512 of 19,456 parameters (2.63%)" for row in rows)
    rates = [row for row in rows if row["what"] == "learning rate"]
    assert [row["seen"] for row in rates] == [
        "at most 0.0075    decoder.layers.0",
        "at most 0.015     decoder.layers.1",
    ]
    name = "decoder.layers.0.self_attention.sublayer.qkv.adapters.queries.down"
    assert rates[0][name] == pytest.approx(0.0075)


def test_killed_and_resumed_without_its_base(server, call, folder, tuned):
    process = Process(server, *TUNE, "--run", "run", cwd=folder, step_pause=0.1)
    process.until(checkpoint(folder / "run", 10).exists)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not checkpoint(folder / "run", 30).exists()
    shutil.rmtree(folder / "base")  # the run holds what it needs
    (folder / "run").rename(folder / "moved")
    done = call("train", "moved", "--resume")
    assert done.returncode == 0, done.stderr
    assert "goes on after step" in done.stderr
    assert bits(folder / "moved", 30) == bits(tuned, 30)
    assert metrics(folder / "moved") == metrics(tuned)
    for name in ("base", "step-000030"):
        ours, theirs = (run / "checkpoints" / name for run in (folder / "moved", tuned))
        sums = [json.loads((path / "checksums.json").read_text()) for path in (ours, theirs)]
        names = {"base.safetensors", "model.safetensors", "optimizer.safetensors"}
        common = names & sums[0]["sha256"].keys()
        assert common
        assert all(sums[0]["sha256"][one] == sums[1]["sha256"][one] for one in common)


def test_before_the_first_checkpoint(server, call, folder, tuned):
    process = Process(server, *TUNE, "--run", "run", cwd=folder, step_pause=0.3)
    process.until((folder / "run" / "checkpoints" / "base").exists)
    process.send(signal.SIGKILL)
    process.wait()
    done = call(*TUNE, "--run", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "no checkpoint to go on from" in done.stderr
    assert bits(folder / "run", 30) == bits(tuned, 30)


def test_what_it_holds_and_learned(call, folder, tuned):
    shutil.copytree(tuned, folder / "tuned")
    (folder / "tuned" / "labels.json").write_text("{}")  # what another task may keep there
    base = checkpoint(folder / "base", 120) / "model.safetensors"
    small = checkpoint(folder / "tuned", 30) / "model.safetensors"
    assert small.stat().st_size < base.stat().st_size / 10
    before, after = loss_of(call, "base"), loss_of(call, "tuned")
    assert after < before / 3
    done = call("generate", "tuned", "zyx", "--strategy", "greedy", "--max-new-tokens", 3)
    assert (done.returncode, len(done.stdout)) == (0, 7)

    for arguments, name in (
        (["merge", "tuned", "-o", "merged"], "merged"),
        (["merge", "base", "--adapter", small, "-o", "handed"], "handed"),
        (["average", "tuned", "--last", 1, "-o", "mean"], "mean"),
    ):
        done = call(*arguments)
        assert done.returncode == 0, done.stderr
        assert loss_of(call, name) == pytest.approx(after, abs=1e-5)
    kept = {path.name for path in (folder / "merged").glob("*.json")}
    assert kept == {"tokenizer.json", "environment.json", "labels.json"}
    plain = load_file(checkpoint(folder / "merged", 0) / "model.safetensors")
    assert plain.keys() == load_file(base).keys()
    assert "adapter" not in regard.Recipe.load("merged", settled=True).model
    texts = {
        call("generate", name, "zyx", "--strategy", "greedy", "--max-new-tokens", 20).stdout
        for name in ("tuned", "merged", "handed", "mean")
    }
    assert len(texts) == 1

    # A run goes on learning from any of them.
    for name in ("merged", "mean"):
        words = [word for word in TUNE if "adapter" not in word and "start_from" not in word]
        words += [f"model.start_from={name}", "training.max_steps=1", "--run", f"{name}-2"]
        done = call(*words)
        assert done.returncode == 0, done.stderr
        first = next(line for line in metrics(folder / f"{name}-2") if "scores" in line)
        assert first["scores"]["loss"] == pytest.approx(after, abs=1e-4)

    for arguments, words in (
        (["merge", "base", "-o", "x"], "this run has no adapters"),
        (["merge", "tuned", "--adapter", small, "-o", "x"], "has adapters of its own"),
        (["merge", "base", "--adapter", base, "-o", "x"], "this file holds no adapters"),
        (["merge", "base", "--adapter", "no.file", "-o", "x"], "cannot be read"),
        (["merge", "tuned", "-o", "base"], "exists already"),
        (["merge", "nowhere", "-o", "x"], "there is no such run"),
    ):
        done = call(*arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    assert not (folder / "x").exists()


def test_two_ranks(server, call, folder):
    """They train the adapters that one rank trains which takes two micro-batches a step."""
    more = ["training.max_steps=4", "training.checkpoint.every_steps=4"]
    done = call(*TUNE, *more, "training.accumulate=2", "--run", "whole")
    assert done.returncode == 0, done.stderr
    processes = two_ranks(server, folder, *TUNE, *more, "--run", "split")
    assert [process.wait() for process in processes] == [0, 0], processes[0].output()
    ours, theirs = (
        load_file(checkpoint(folder / name, 4) / "model.safetensors") for name in ("split", "whole")
    )
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert (value - theirs[name]).abs().max() < 1e-4, name
