"""The model card: what a run is, what it reached, how it is used."""

import json

import pytest
from torch import nn

from regard.card import card
from regard.recipe import Recipe
from regard.run import Run

SCORES = [(0, 9.0, False), (10, 4.0, True), (20, 3.25, True), (30, 3.5, False)]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    lines = [{"event": "step", "step": 1, "terms": {"loss": 8.0}}]
    for step, loss, best in SCORES:
        scores = {"loss": loss, "bleu": 10.0 - loss}
        lines.append({"event": "evaluation", "step": step, "scores": scores, "best": best})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "run" / "metrics.jsonl").write_text(text)
    environment = {"regard": "9.9", "torch": "2.0", "device": "cpu", "threads": 3}
    (tmp_path / "run" / "environment.json").write_text(json.dumps(environment))
    return Run(tmp_path / "run")


@pytest.fixture
def recipe():
    return Recipe.load("demo", ["training.seed=7"])


def test_scores_and_commands(run, recipe):
    text = card(run, recipe, nn.Linear(100, 10))
    assert text.startswith("# run\n")
    assert "1,010 parameters" in text
    assert "| best | 20 | 3.25 | 6.75 |" in text
    assert "| last | 30 | 3.5 | 6.5 |" in text
    assert "Seed 7" in text
    assert "on cpu, 3 threads" in text
    assert "corpus demo" in text
    for verb in ("translate", "evaluate", "look", "train"):
        assert f"regard {verb} {run.path}" in text
    assert text.endswith("\n")


def test_before_the_first_evaluation(run, recipe):
    (run.path / "metrics.jsonl").unlink()
    text = card(run, recipe, nn.Linear(1, 1))
    assert "| best |" not in text
    assert "regard translate" in text


def test_without_validation_there_is_no_table(run, recipe):
    (run.path / "metrics.jsonl").unlink()
    assert "| --- |" not in card(run, recipe, nn.Linear(2, 2))
