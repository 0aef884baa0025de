"""Benchmarks: a path that is not there is said in a line, before anything is measured."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("chart", ["nowhere", "-o", "chart.png"]),
        ("quality.multi30k", ["--data", "nowhere", "--runs", "runs"]),
        ("quality.positions", ["--data", "nowhere"]),
        ("quality.xquad_split", ["nowhere", "."]),
        ("speed.startup", ["--run", "nowhere"]),
        ("speed.file", ["nowhere"]),
        ("speed.nanogpt", ["nowhere"]),
        ("speed.variants", ["--batches", "nowhere"]),
        ("speed.train", ["--batches", "nowhere"]),
        ("speed.decode", ["--sources", "nowhere"]),
    ],
)
def test_a_path_that_is_not_there_is_named(script, words, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *words])
    module = importlib.import_module(f"benchmarks.{script}")
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert "error: " in last
    assert "there is no such file" in last
    assert last.endswith("nowhere")
