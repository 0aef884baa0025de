"""Every example runs, says what it should, and stays short."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from regard import registry

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINES = 40


@pytest.fixture
def example(monkeypatch, capsys, tmp_path):
    """Run an example as a program, in an empty directory; what it prints."""
    monkeypatch.chdir(tmp_path)
    for group, names in registry.KINDS.items():  # a plug-in's line is for its own example alone
        monkeypatch.setitem(registry.KINDS, group, dict(names))

    def run(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_none_is_forgotten_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'example("{path.name}"' in tested
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES


def test_a_transformer_from_parts(example) -> None:
    loss, right = example("parts.py").replace("%", "").split(", ")
    assert float(loss.split()[1]) < 0.1
    assert float(right.split()[1]) > 95


def test_clips_are_told_apart_by_their_time(example) -> None:
    pytest.importorskip("PIL")
    said = example("clips.py")
    shares = [int(one) for one in re.findall(r"(\d+)%", said)]
    assert len(shares) == 2
    assert min(shares) > 90, said


def test_a_kind_from_outside(example) -> None:
    assert "step by step the same: True" in example("plugin_kind.py")


def test_train_from_python(example, files) -> None:
    sides = [f"{split}.{side}" for split in ("train", "valid") for side in ("source", "target")]
    short = ("training.max_steps=2", "tokenizer.vocab_size=300", "decoding.max_length=5")
    said = example("train.py", *sides, "run", *short, "model.num_layers=1")
    assert said.startswith("after step 0: perplexity ")
    assert " became '" in said.splitlines()[-1]
    assert (files / "run" / "best").exists()


def test_look_at_a_model(example, trained) -> None:
    assert "the picture is in dog.html" in example("look.py", trained, "1 2 3", "dog.html")
    assert Path("dog.html").stat().st_size > 10_000
