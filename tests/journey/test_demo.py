"""``regard demo`` from start to end, on a smaller corpus and for a few steps."""

import dataclasses
import os
import signal
import sys

import pytest

from regard import corpora
from regard.cli import progress
from regard.training import StepDone

from ._made import bits

SMALL = [
    word
    for setting in (
        "training.max_steps=4",
        "training.threads=1",
        "training.precision=float32",
        "training.schedule.warmup_steps=2",
        "training.checkpoint.every_steps=2",
        "evaluation.every_steps=2",
        "tokenizer.vocab_size=400",
        "model.d_model=16",
        "model.num_layers=1",
        "model.layer.feed_forward.d_ff=32",
        "decoding.max_length=20",
    )
    for word in ("--set", setting)
]


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    kinds = corpora._CORPORA
    monkeypatch.setitem(kinds, "demo", dataclasses.replace(kinds["demo"], size=1000))


def test_the_whole_demo(call, tmp_path):
    done = call("demo", "--run", "runs/here", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "1,000 pairs to train on" in done.stdout
    assert "evaluation after step 4" in done.stderr
    for words in ("trained in", "BLEU|nrefs:1", "exact match", "what to try next", "right: "):
        assert words in done.stdout
    run = tmp_path / "runs" / "here"
    assert (run / "attention.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (run / "attention.html").read_text()
    (line,) = (line for line in done.stdout.splitlines() if "translate your own" in line)
    words = line.rsplit(" translate ", 1)[1].replace('"', "").split(" ", 1)
    assert call("translate", *words).returncode == 0

    before = bits(run, 4)
    again = call("demo", "--run", "runs/here", *SMALL)
    assert again.returncode == 0, again.stderr
    assert "goes on after step 4 of 4" in again.stderr
    assert "what to try next" in again.stdout
    assert bits(run, 4) == before


def test_without_matplotlib_there_is_the_page(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = call("demo", "--run", "run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "no image to print: the package 'matplotlib' is not installed" in done.stdout
    assert (tmp_path / "run" / "attention.html").exists()
    assert not (tmp_path / "run" / "attention.png").exists()


def test_stopped_it_goes_on(call, tmp_path, monkeypatch):
    class Stopping:
        def __init__(self):
            self.close = lambda: None

        def __call__(self, event):
            if isinstance(event, StepDone) and event.step == 1:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "listener", Stopping)
        done = call("demo", "--run", "run", *SMALL)
    assert done.returncode == 130, done.stderr
    assert "regard demo goes on from here" in done.stdout
    done = call("demo", "--run", "run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "goes on after step 1 of 4" in done.stderr


def test_another_directory_is_refused(call, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    done = call("demo", "--run", "mine")
    assert done.returncode == 2
    assert "this directory holds something else than a run" in done.stderr
