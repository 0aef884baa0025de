"""``regard average`` on a run that was really trained."""

import json
import shutil

import pytest
from safetensors.numpy import load_file

from regard.errors import CheckpointError

SETTINGS = [
    "training.max_steps=6",
    "training.checkpoint={every_steps = 2, keep = 3, average = 2}",
    "evaluation.every_steps=2",
]


@pytest.fixture
def run(call, files):
    done = call("train", "tiny.toml", "--run", "run", *SETTINGS)
    assert done.returncode == 0, done.stderr
    return files / "run"


def weights(run, step):
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def test_average(call, run, tmp_path):
    done = call("average", "run", "--last", 2, "-o", "mean")
    assert done.returncode == 0, done.stderr
    assert "mean of steps 4, 6" in done.stdout
    mean, first, second = weights(tmp_path / "mean", 6), weights(run, 4), weights(run, 6)
    for name, value in mean.items():
        assert abs(value - (first[name] + second[name]) / 2).max() < 1e-6
    texts = call("translate", "mean", "1 2 3")
    assert (texts.returncode, texts.stdout.count("\n")) == (0, 1)
    # The run itself averages its last two when it is used: the same model.
    assert call("translate", "run", "1 2 3").stdout == texts.stdout

    scored = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["scores"]["loss"] for line in scored if "scores" in line}
    best = sorted(sorted((4, 2, 6), key=losses.get)[:2])
    done = call("average", "run", "--best", 2, "-o", "best")
    assert f"mean of steps {best[0]}, {best[1]}" in done.stdout

    for arguments, words in [
        (["run", "--last", 9, "-o", "x"], "has 3 checkpoints"),
        (["run", "--last", 2, "-o", "mean"], "exists"),
        (["run", "-o", "x"], "one of --last and --best"),
        (["run", "--last", 1, "--best", 1, "-o", "x"], "one of --last and --best"),
        (["nowhere", "--last", 1, "-o", "x"], "nowhere"),
        (["run", "--last", 0, "-o", "x"], "--last"),
    ]:
        wrong = call("average", *arguments)
        assert wrong.returncode == 2, wrong.stderr
        assert words in wrong.stderr
    assert not [path for path in tmp_path.iterdir() if path.name in ("x", ".x.partial")]

    resumed = call("train", "mean", "--run", "mean", "--resume")
    assert resumed.returncode == 2
    assert "holds weights alone" in resumed.stderr

    path = run / "checkpoints" / "step-000006" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert call("translate", "run", "1 2 3").stdout == texts.stdout  # the kept mean is whole
    shutil.rmtree(run / "checkpoints" / "mean")
    done = call("average", "run", "--last", 2, "-o", "y")
    assert done.returncode == 2
    assert "step-000006" in done.stderr
    assert not (tmp_path / "y").exists()


def test_the_mean_is_kept_and_goes_on_with_the_run(call, run):
    mean = run / "checkpoints" / "mean"

    def kept():
        return set(json.loads((mean / "state.json").read_text())["of"])

    assert kept() == {"step-000004", "step-000006"}
    answer = call("translate", "run", "1 2 3").stdout
    mean.rename(run / "aside")
    assert call("translate", "run", "1 2 3").stdout == answer
    assert not mean.exists()  # use writes nothing
    (run / "aside").rename(mean)
    written = (mean / "state.json").stat().st_mtime_ns
    assert call("train", "run", "--run", "run", "--resume").returncode == 0
    assert (mean / "state.json").stat().st_mtime_ns == written  # a finished run stays as it is
    done = call("train", "run", "--run", "run", "--resume", "training.max_steps=8")
    assert done.returncode == 0, done.stderr
    assert kept() == {"step-000006", "step-000008"}
    more = ["training.max_steps=10", "training.checkpoint.average=0"]
    assert call("train", "run", "--run", "run", "--resume", *more).returncode == 0
    assert not mean.exists()


def test_a_mean_that_cannot_be_kept_is_a_warning(call, files, monkeypatch):
    def full(*_):
        raise CheckpointError("cannot be written: No space left on device")

    monkeypatch.setattr("regard.training.checkpoints.CheckpointStore.save_mean", full)
    done = call("train", "tiny.toml", "--run", "run", *SETTINGS)
    assert done.returncode == 0
    assert "warning: the averaged weights are not kept: cannot be written" in done.stderr
    assert call("translate", "run", "1 2 3").returncode == 0
