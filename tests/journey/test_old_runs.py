"""Runs of every format there was open for ever: see tests/snapshots/write_run.py."""

import json
import shutil
from pathlib import Path

import pytest

import regard
from regard.run import FORMAT

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
RUNS = sorted(SNAPSHOTS.glob("run-*"))


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def run(request, tmp_path):
    shutil.copytree(request.param, tmp_path / "run")
    return tmp_path / "run"


def test_every_format_is_here():
    assert [path.name for path in RUNS] == [f"run-{number}" for number in range(1, FORMAT + 1)]


def test_it_answers_as_it_did(call, run):
    expected = json.loads((run / "expected.json").read_text())
    found = regard.load(run).ranked(expected["texts"], beam=2)
    assert [row[0].text for row in found] == [one["text"] for one in expected["outputs"]]
    assert [row[0].score for row in found] == pytest.approx(
        [one["score"] for one in expected["outputs"]], abs=1e-4
    )
    for words in (["cost", "run"], ["runs", "run"], ["evaluate", "run", "--data", *FILES]):
        done = call(*words)
        assert done.returncode == 0, done.stderr


FILES = ["source=run/valid.source", "target=run/valid.target"]


def test_it_goes_on(call, run):
    done = call("train", "run", "training.max_steps=402", "--resume")
    assert done.returncode == 0, done.stderr
    assert "goes on after step 400 of 402" in done.stderr


def test_another_run_starts_from_it(call, run):
    words = ["model.start_from=run", "training.max_steps=1"]
    done = call("train", "run", *words, "--run", "next")
    assert done.returncode == 0, done.stderr
    assert "new, drawn at random: none" in done.stderr


def test_a_newer_format_says_so(call, run):
    environment = json.loads((run / "environment.json").read_text())
    environment["format"] = FORMAT + 1
    (run / "environment.json").write_text(json.dumps(environment))
    done = call("translate", "run", "1 2")
    assert done.returncode == 2
    assert f"was written by a newer regard (format {FORMAT + 1})" in done.stderr
