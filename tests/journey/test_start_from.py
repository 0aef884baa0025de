"""``model.start_from``: a new run from another's weights; it says what is kept and what is new."""

import pytest
from safetensors.torch import load_file

import regard
from regard.load import load

from ._made import bits, checkpoint, contents

FROM = ["model.start_from=old", "training.max_steps=1", "evaluation.samples=0"]


@pytest.fixture
def old(files):
    """A run of tiny.toml whose weights were averaged, so that there is one checkpoint of them."""
    regard.train(files / "tiny.toml", {"training.max_steps": 4}, run=files / "old")
    return files / "old"


def test_it_starts_from_the_weights(call, files, old):
    done = call("train", "tiny.toml", *FROM, "--run", "new")
    assert done.returncode == 0, done.stderr
    held = load_file(checkpoint(old, 4) / "model.safetensors")
    assert f"weights: {len(held)} tensors from {old} (best, step 4)" in done.stderr
    assert "new, drawn at random: none" in done.stderr
    assert "not used of that run: none" in done.stderr
    assert "new too: optimizer, schedule, step counter, order of the data" in done.stderr
    started = regard.Recipe.load("new", settled=True)
    assert started.model["start_from"] == str(old)

    # Its first evaluation is of the old weights.
    scores = [
        line for line in (files / "new" / "log.txt").read_text().splitlines() if "step 0:" in line
    ]
    end = [line for line in (old / "log.txt").read_text().splitlines() if "after step 4:" in line]
    assert scores[0].split("loss ")[1].split()[0] == end[0].split("loss ")[1].split()[0]


def test_the_recipe_may_say_its_own_size_if_it_is_the_same(call, files, old):
    """The sizes come from the run: a preset in the recipe's file steps back."""
    short = 'task = "translation"\ntraining.max_steps = 1\ntraining.threads = 1\n' + "".join(
        f'data.{split} = {{ source = "{split}.source", target = "{split}.target" }}\n'
        for split in ("train", "valid")
    )
    (files / "short.toml").write_text(short)
    for recipe in ("tiny.toml", "short.toml"):
        done = call("train", recipe, *FROM, "training.batch_tokens=400", "--run", recipe[:-5])
        assert done.returncode == 0, done.stderr
    model = load("short").model
    assert model.config == load(old).model.config
    assert load("short").tokenizer.fingerprint == load(old).tokenizer.fingerprint
    assert regard.Recipe.load("short", settled=True).tokenizer.kind == "words"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.d_model=32"], "source_embedding.weight is (14, 16) there and (14, 32) here"),
        (["model.layer.feed_forward.d_ff=64"], "there and"),
        (["tokenizer.kind=chars"], "tokenizer.kind: is 'chars' here and 'words' in the run"),
        (["tokenizer.lowercase=true"], "tokenizer.lowercase: is True here and False in the run"),
    ],
)
def test_another_shape_is_refused(call, files, old, words, said):
    before = contents(files)
    done = call("train", "tiny.toml", *FROM, *words, "--run", "new")
    assert done.returncode == 2
    assert said in done.stderr
    assert contents(files) == before
    assert not (files / "new").exists()


def test_more_layers_are_new_and_said_so(call, files, old):
    done = call("train", "tiny.toml", *FROM, "model.num_layers=2", "--run", "new")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("new, drawn"))
    assert "encoder.layers.1." in line
    assert "decoder.layers.1." in line
    assert "layers.0." not in line


def test_dropout_may_change(call, files, old):
    done = call("train", "tiny.toml", *FROM, "model.layer.dropout=0.5", "--run", "new")
    assert done.returncode == 0, done.stderr
    config = load("new").model.config
    assert (config.encoder.layer.dropout, config.decoder.layer.dropout) == (0.5, 0.5)


def test_the_old_run_is_not_needed_to_go_on(call, files, old):
    done = call("train", "tiny.toml", *FROM, "--run", "new")
    assert done.returncode == 0, done.stderr
    old.rename(files / "gone")
    done = call("train", "new", "training.max_steps=3", "--resume")
    assert done.returncode == 0, done.stderr
    assert "goes on after step 1 of 3" in done.stderr
    assert call("translate", "new", "1 2").returncode == 0


def test_without_its_checkpoints_it_starts_over_from_the_old_weights(call, files, old):
    import shutil

    assert call("train", "tiny.toml", *FROM, "--run", "new").returncode == 0
    first = bits(files / "new", 1)
    shutil.rmtree(files / "new" / "checkpoints")
    done = call("train", "tiny.toml", *FROM, "--run", "new", "--resume")
    assert done.returncode == 0, done.stderr
    assert "tensors from" in done.stderr
    assert "no checkpoint to go on from" in done.stderr
    assert bits(files / "new", 1) == first


def test_check_reads_the_weights_too(call, files, old):
    done = call("check", "tiny.toml", *FROM)
    assert done.returncode == 0, done.stderr
    assert "tensors from" in done.stdout


def test_a_runs_own_recipe_starts_another_run(call, files, old):
    """What the command line says of every stack reaches each of them."""
    done = call(
        *("train", "old", "--run", "next", "training.max_steps=1", "model.layer.dropout=0.4"),
        *("model.num_layers=2", "training.seed=9"),
    )
    assert done.returncode == 0, done.stderr
    recipe = regard.Recipe.load("next", settled=True)
    for stack in ("encoder", "decoder"):
        assert recipe.model[stack]["num_layers"] == 2
        assert recipe.model[stack]["layer"]["dropout"] == 0.4
    assert (recipe.training.seed, recipe.model["d_model"]) == (9, 16)
