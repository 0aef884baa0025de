"""``regard train`` and ``check`` with what users get wrong: a word, status 2, nothing left."""

import pytest

from ._made import RECIPE, contents

WRITTEN = [
    ("batch_tokens = 400", "batch_tokns = 400", "tiny.toml:20: training.batch_tokns: unknown key"),
    ("batch_tokens = 400", "batch_tokns = 400", "did you mean training.batch_tokens?"),
    ("max_steps = 12", 'max_steps = "many"', "tiny.toml:19: training.max_steps: must be a whole"),
    ("max_steps = 12", "max_steps = 0", "tiny.toml:19: training.max_steps: must be greater"),
    ("max_steps = 12", "# nothing", "training: give exactly one of max_steps and max_epochs"),
    ('preset = "tiny"', 'preset = "tny"', "tiny.toml:12: model.preset: transformer has no preset"),
    ('preset = "tiny"', 'preset = "tny"', "did you mean 'tiny'?"),
    ("d_model = 16", "d_modle = 16", "tiny.toml:13: model.d_modle: unknown key"),
    ("d_model = 16", 'd_model = "16"', "tiny.toml:13: model.d_model: '16' does not fit"),
    ("num_heads = 2", "num_heads = 3", "tiny.toml:15: model.layer.attention.num_heads: 3 heads do"),
    ("num_heads = 2", "num_haeds = 2", "did you mean model.layer.attention.num_heads?"),
    ('task = "translation"', 'task = "detection"', "tiny.toml:1: task: there is no 'detection'"),
    ('task = "translation"', 'task = "translatoin"', "did you mean 'translation'?"),
    ('kind = "words"', 'kind = "bpee"', "tiny.toml:9: tokenizer.kind: there is no 'bpee'"),
    ("[data]", "[date]", "tiny.toml:3: date: unknown key"),
    ("[data]", "[data", "tiny.toml:3: is not TOML"),
    ("peak = 0.01", "peek = 0.01", "tiny.toml:23: training.schedule.peek: unknown key"),
    ("threads = 1", 'device = "tpu"', "training.device: there is no device 'tpu'"),
    ("threads = 1", 'device = "cuda"', "training.device: torch finds no GPU here"),
    ("batch_tokens = 400", "batch_tokens = 9", "raise training.batch_tokens"),
    ("samples = 1", 'metric = "bleeu"', "evaluation.metric: there is no score 'bleeu'"),
    ('"train.source"', '"no.source"', "no.source: there is no such file"),
    ('"train.source"', '"empty"', "empty: the file is empty"),
    ('"train.source"', '"short"', "short has 2, "),
    ('"train.target"', '"short"', "train.source has 300, "),
    ('"valid.target"', '"short"', "valid.source has 40, "),
    ('"train.source"', '"latin"', "latin:2: this line is not UTF-8"),
    ('"valid.source"', '"long"', "long:2: the example has 1100 tokens, more than 1023"),
    ('"train.source"', '"."', "this is a directory, not a file"),
    ("train = { source", "train = { sorce", "tiny.toml:4: data.train.sorce: the task"),
    ("train = {", "trian = {", "tiny.toml:4: data.trian: unknown key"),
    ("train = {", "# train = {", "this run has no such data"),
]


@pytest.fixture
def folder(files):
    (files / "short").write_text("1\n2\n")
    (files / "latin").write_bytes(b"1\n\xe4\n")
    (files / "long").write_text("1\n" + "1 " * 1100 + "\n" * 39)
    (files / "empty").write_text("")
    return files


@pytest.mark.parametrize(("right", "wrong", "words"), WRITTEN)
def test_what_is_written(call, folder, right, wrong, words):
    assert right in RECIPE
    (folder / "tiny.toml").write_text(RECIPE.replace(right, wrong, 1))
    before = contents(folder)
    done = call("train", "tiny.toml", "--run", "run")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if "metric" in wrong:  # the run had begun: it can go on
        done = call("train", "tiny.toml", "evaluation.metric=bleu", "--run", "run", "--resume")
        assert done.returncode == 0, done.stderr
    else:
        assert contents(folder) == before
        assert not (folder / "run").exists()
        checked = call("check", "tiny.toml")
        assert checked.returncode == 2
        assert words in checked.stderr
        assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.toml"], "nowhere.toml: there is no such recipe"),
        (["dmo"], "did you mean 'demo'?"),
        (["train.source"], "train.source:1: is not TOML"),
        (["latin"], "latin:2: is not UTF-8 text"),
        (["."], "there is no such recipe"),
        (["tiny.toml", "training.seed"], "command line: 'training.seed' is no setting"),
        (["tiny.toml", "training.sed=2"], "command line: training.sed: unknown key"),
        (["tiny.toml", "training.seed=two"], "command line: training.seed: must be a whole number"),
        (["tiny.toml", "data.train.file=x.tsv"], "x.tsv: there is no such file"),
        (["tiny.toml", "data.train.corpus=dmo"], "there is no corpus named 'dmo'"),
        (["tiny.toml", "model.start_from=nowhere"], "there is no such run"),
        (["tiny.toml", "training.precision=int8"], "training.precision: must be 'auto'"),
    ],
)
def test_what_is_typed(call, folder, arguments, words):
    before = contents(folder)
    done = call("train", *arguments, "--run", "run")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(folder) == before
    assert not (folder / "run").exists()


def test_a_directory_that_exists(call, folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("do not touch")
    before = contents(folder)
    for more in ([], ["--resume"]):
        done = call("train", "tiny.toml", "--run", "mine", *more)
        assert done.returncode == 2
        assert "mine: " in done.stderr
    done = call("train", "tiny.toml", "--run", "latin")
    assert done.returncode == 2
    assert "latin: " in done.stderr
    assert contents(folder) == before


def test_an_empty_directory_is_welcome(call, folder):
    (folder / "run").mkdir()
    done = call("train", "tiny.toml", "training.max_steps=1", "--run", "run")
    assert done.returncode == 0, done.stderr


def test_a_finished_run_is_not_overwritten(call, trained):
    before = contents(trained)
    done = call("train", trained.parent / "tiny.toml", "--run", trained)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert contents(trained) == before


def test_a_preset_over_a_runs_recipe(call, folder, trained):
    """It would change nothing, as the run's recipe says every size."""
    done = call("train", trained, "model.preset=base", "--run", "run")
    assert done.returncode == 2
    assert "a preset would change nothing" in done.stderr
    assert not (folder / "run").exists()


def test_training_pairs_that_are_too_long_are_counted(call, folder):
    for side in ("source", "target"):
        with (folder / f"train.{side}").open("a") as file:
            file.write("1 " * 300 + "\n" + ("\n" if side == "source" else "1\n"))
    done = call("train", "tiny.toml", "training.max_steps=1", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert "300 pairs to train on" in done.stderr
    assert "left out: 1 too long" in done.stderr
    assert "left out: 1 empty" in done.stderr
