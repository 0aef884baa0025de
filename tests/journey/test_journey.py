"""From text to translations: every verb, in the order of a user's way."""

import json

import pytest

import regard
from regard.load import load
from regard.nn import backend

from ._made import bits, contents, metrics

NEW = [
    f"--{split}-{side}={split}.{side}"
    for split in ("train", "valid", "test")
    for side in ("source", "target")
]


def test_the_whole_way(call, files):
    """new, check, train, resume, evaluate, translate, average, runs, look, cost."""
    small = [
        "model.preset=tiny",
        "model.d_model=16",
        "model.num_layers=1",
        "model.layer.feed_forward.d_ff=32",
        "tokenizer.kind=chars",
        "training.max_steps=6",
        "training.threads=1",
        "training.precision=float32",
        "training.checkpoint.every_steps=2",
        "evaluation.every_steps=3",
        "evaluation.metric=bleu",
    ]
    done = call("new", "translation", *NEW, "-o", "recipe.toml")
    assert done.returncode == 0, done.stderr

    done = call("check", "recipe.toml", *small)
    assert done.returncode == 0, done.stderr
    assert "400 of 400 texts come back" in done.stdout
    assert "as it should be" in done.stdout
    assert f"regard train recipe.toml {small[0]}" in done.stdout
    assert not (files / "runs").exists()

    done = call("train", "recipe.toml", *small, "--run", "runs/first")
    assert done.returncode == 0, done.stderr
    assert "300 pairs to train on" in done.stderr
    assert "evaluation after step 0: " in done.stderr
    assert "evaluation after step 6: " in done.stderr
    assert done.stderr.splitlines()[-1] == "done: runs/first"
    names = {path.name for path in (files / "runs" / "first").iterdir()}
    assert names >= {
        *("recipe.toml", "tokenizer.json", "checkpoints", "best", "metrics.jsonl"),
        *("environment.json", "log.txt", "README.md"),
    }

    modes = {path.stat().st_mode for path in (files / "runs").rglob("*.*") if path.is_file()}
    assert len(modes) == 1  # whoever may read the recipe may read the weights

    before = contents(files / "runs" / "first" / "checkpoints")
    done = call("train", "recipe.toml", *small, "--run", "runs/first", "--resume")
    assert done.returncode == 0, done.stderr
    assert "goes on after step 6 of 6" in done.stderr
    assert contents(files / "runs" / "first" / "checkpoints") == before

    done = call("evaluate", "runs/first")
    assert done.returncode == 0, done.stderr
    assert "40 examples" in done.stdout
    assert "tok:13a" in done.stdout
    done = call("translate", "runs/first", "1 2 3")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    done = call("average", "runs/first", "--last", "2", "-o", "runs/mean")
    assert done.returncode == 0, done.stderr
    done = call("runs", "runs", "-o", "curves.svg")
    assert done.returncode == 0, done.stderr
    assert "6 of 6" in done.stdout
    done = call("look", "runs/first", "1 2 3", "-o", "look.html")
    assert done.returncode == 0, done.stderr
    assert (files / "look.html").stat().st_size > 10_000
    done = call("cost", "runs/first")
    assert done.returncode == 0, done.stderr
    parameters = sum(p.numel() for p in load("runs/first").model.parameters())
    assert f"{parameters:,} parameters" in done.stdout


def test_the_module_is_the_command(cli, files):
    """``python -m regard`` in another process gives what this process gives, to the bit."""
    done = cli("train", "tiny.toml", "--run", "there")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "\r" not in done.stderr
    regard.train(files / "tiny.toml", run=files / "here")
    assert bits(files / "there") == bits(files / "here")
    assert metrics(files / "there") == metrics(files / "here")


def test_another_seed_is_another_run(files):
    for name, seed in (("one", 1), ("two", 2)):
        regard.train(files / "tiny.toml", {"training.seed": seed}, run=files / name)
    assert bits(files / "one") != bits(files / "two")


def test_check_as_json(call, files):
    done = call("check", "tiny.toml", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["what"] for row in rows][:2] == ["recipe", "data"]
    assert all(row["seen"] for row in rows)


def test_a_run_is_named_after_its_recipe(call, files):
    quick = ["training.max_steps=1", "evaluation.samples=0"]
    assert call("train", "tiny.toml", *quick).returncode == 0
    assert (files / "runs" / "tiny" / "recipe.toml").exists()
    done = call("train", "runs/tiny", "training.max_steps=2", "--resume")
    assert done.returncode == 0, done.stderr
    assert "new: training.max_steps = 2, was 1" in done.stderr
    assert "kept of runs/tiny: weights, optimizer, schedule, generators" in done.stderr


def test_a_copied_run_works_anywhere(call, trained, tmp_path):
    """Nothing in a run says where it was made, and using it writes nothing into it."""
    import shutil

    shutil.copytree(trained, tmp_path / "moved")
    before = contents(tmp_path / "moved")
    texts = ["3 1 4", "2 7 1 8"]
    here, there = call("translate", "moved", *texts), call("translate", trained, *texts)
    assert here.stdout == there.stdout
    for verb in (["evaluate"], ["cost"], ["look", "1 2", "-o", "x.png"]):
        name, *rest = verb
        assert call(name, "moved", *rest).returncode == 0
    assert contents(tmp_path / "moved") == before


@pytest.mark.parametrize("native", ["1", "0"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_loaded_model_decodes_by_the_fast_way(trained, precision, native, monkeypatch):
    """With operators in C++ and without; in each precision it translates as it does elsewhere."""
    monkeypatch.setenv("REGARD_NATIVE", native)
    translator = regard.load(trained, precision=precision)
    fused, made = translator.model.decoder.fused, []
    logits = fused.logits

    def counted(*given):
        made.append(logits(*given) if given[2].shape[1] == 1 else None)
        return made[-1]

    fused.logits = counted
    outputs = translator.translate(["3 1 4", "2 7 1 8"])
    assert made
    assert None not in made
    translator.model.decoder.fused = None
    assert translator.translate(["3 1 4", "2 7 1 8"]) == outputs


def test_a_processor_without_products_of_int8_is_named(trained, monkeypatch, caplog):
    monkeypatch.setenv("REGARD_NATIVE", "0")
    monkeypatch.setattr(backend, "has_int8", lambda: False)
    translator = regard.load(trained, precision="int8")
    assert "int8 is no faster than float32 here" in caplog.text
    assert len(translator.translate(["3 1 4"])) == 1


def test_the_card_says_how_to_use_the_run(trained):
    text = (trained / "README.md").read_text(encoding="utf-8")
    assert "| best |" in text
    assert "| last | 192 |" in text
    assert f"regard evaluate {trained}" in text


@pytest.mark.parametrize("verb", ["train", "check", "translate", "evaluate", "average", "look"])
def test_help(call, verb):
    done = call(verb, "--help")
    assert done.returncode == 0
    assert f"Usage: regard {verb}" in done.stdout
