"""``regard.check``: what it tries, in order, and that it leaves nothing behind."""

import tempfile

import pytest
import torch

from regard import check as module
from regard.check import check
from regard.errors import RecipeError, RegardError


def rows(*arguments):
    return {row.what: row.seen for row in check(*arguments)}


def test_everything_in_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    found = list(check("tiny.toml"))
    assert [row.what for row in found] == [
        *(
            "recipe",
            "data",
            "data",
            "tokenizer",
            "machine",
            "batches",
            "schedule",
            "model",
            "worst batch",
        ),
        *("first loss", "one step", "save, load, decode, score", "trial run"),
    ]
    values = {row.what: row.values for row in found}
    assert values["schedule"]["of"] == 2
    assert values["worst batch"]["seconds"] > 0
    assert set(values["save, load, decode, score"]) == {"bleu", "chrf", "exact_match"}
    seen = {row.what: row.seen for row in found}
    assert seen["recipe"] == "tiny.toml: every key known and typed"
    assert "24 of 24 texts come back" in seen["tokenizer"]
    assert "cpu, float32, 1 thread," in seen["machine"]
    assert seen["schedule"].endswith("at step 2 of 2")
    assert "as it should be" in seen["first loss"]
    assert seen["save, load, decode, score"].startswith("3 texts: BLEU ")
    assert not list((tmp_path / "tmp").glob("regard-*"))
    assert not (tmp_path / "runs").exists()


def test_the_worst_batch_is_tried_as_training_will(folder, monkeypatch):
    def build(*arguments):
        made.append(usual(*arguments))
        return made[-1]

    made = []
    usual = module.build_model
    monkeypatch.setattr(module, "build_model", build)
    found = rows("tiny.toml", ["training.precision=bfloat16"])
    assert "cpu, bfloat16" in found["machine"]
    assert next(made[0].parameters()).dtype == torch.bfloat16
    assert "as it should be" in found["first loss"]


def test_a_run_that_ends_in_its_warm_up_is_said(folder):
    found = rows("tiny.toml", ["training.schedule.warmup_steps=50"])
    assert "ends before its 50 steps of warm-up" in found["schedule"]


@pytest.mark.parametrize("setting", ["training.patience=3", "evaluation.metric=bleu"])
def test_what_needs_validation_data_is_refused_without(folder, setting):
    lines = (folder / "tiny.toml").read_text().splitlines(keepends=True)
    (folder / "bare.toml").write_text("".join(line for line in lines if "valid" not in line))
    with pytest.raises(RecipeError, match="no meaning without validation data"):
        rows("bare.toml", [setting])


def test_a_score_that_nobody_gives(folder):
    with pytest.raises(RecipeError, match=r"evaluation\.metric.*'bleau'") as caught:
        rows("tiny.toml", ["evaluation.metric=bleau"])
    assert "did you mean 'bleu'?" in str(caught.value)


def test_one_error_ends_it(folder):
    (folder / "valid.target").write_text("1\n")
    tried = []
    with pytest.raises(RegardError, match="parallel files need as many lines"):
        tried.extend(row.what for row in check("tiny.toml"))
    with pytest.raises(RecipeError, match=r"training\.sed"):
        rows("tiny.toml", ["training.sed=1"])


def test_without_validation_data(folder):
    lines = (folder / "tiny.toml").read_text().splitlines(keepends=True)
    (folder / "bare.toml").write_text("".join(line for line in lines if "valid" not in line))
    found = rows("bare.toml")
    assert found["one step"] == "no validation data"
    assert "save, load, decode, score" not in found


@pytest.mark.parametrize(
    "settings",
    [
        {"training.max_epochs": 2},
        {"training.checkpoint.average": 2, "training.checkpoint.keep": 2},
        {"evaluation.metric": "bleu"},
        {"decoding.nbest": 2},
        {"decoding.strategy": "sample", "decoding.temperature": 0.5},
        {"training.accumulate": 3, "training.batch_size": 4},
        {"objective.label_smoothing": 0.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_it_bears_every_recipe(folder, settings):
    assert "trial run" in rows("tiny.toml", settings)


def test_a_loss_too_high_is_said(folder, monkeypatch):
    def build(*arguments):
        model = usual(*arguments)
        with torch.no_grad():
            model.head.weight.mul_(30)
        return model

    usual = module.build_model
    monkeypatch.setattr(module, "build_model", build)
    assert "too high, look into this" in rows("tiny.toml")["first loss"]


def test_a_parameter_without_a_gradient_is_named(folder, monkeypatch):
    def build(*arguments):
        model = usual(*arguments)
        model.forgotten = torch.nn.Parameter(torch.zeros(1))
        return model

    usual = module.build_model
    monkeypatch.setattr(module, "build_model", build)
    with pytest.raises(RegardError, match="forgotten: the parameter gets no gradient"):
        rows("tiny.toml")
