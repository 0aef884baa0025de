"""``regard new classification``: recipes for one's own labels, sized to them."""

import pytest

from regard.recipe import Recipe

from ._labeled import SIZES, judgments


@pytest.fixture
def folder(tmp_path):
    judgments(tmp_path)
    return tmp_path


def test_a_recipe_that_runs(call, folder):
    files = [word for split in SIZES for word in (f"--{split}", f"{split}.tsv")]
    done = call("new", "classification", *files, "-o", "mine.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 labels" in (folder / "mine.toml").read_text()
    recipe = Recipe.load(folder / "mine.toml")
    assert recipe.data.train.fields is None
    assert (recipe.evaluation.metric, recipe.data.max_length) == ("accuracy", 64)
    done = call("check", "mine.toml", "tokenizer.vocab_size=60", "training.threads=1")
    assert (done.returncode, "all is well" in done.stdout) == (0, True), done.stderr


def test_fields_and_kinds(call, folder):
    (folder / "a.csv").write_text('a,0.5,"b, c"\nb,2,c\n')
    pair = ["--text", 1, "--pair", 3, "--label", 2]
    done = call(
        "new", "classification", "--train", "a.csv", "--valid", "a.csv", *pair, "-o", "r.toml"
    )
    assert done.returncode == 0, done.stderr
    recipe = Recipe.load(folder / "r.toml")
    assert recipe.data.train.fields == {"text": 1, "pair": 3, "label": 2}
    assert (recipe.objective.kind, recipe.evaluation.metric) == ("regression", "pearson")
    assert "TEXT<TAB>OTHER TEXT" in (folder / "r.toml").read_text()
    (folder / "b.jsonl").write_text(
        '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": []}\n'
    )
    several = ["--kind", "multi_label", "-o", "s.toml"]
    done = call("new", "classification", "--train", "b.jsonl", "--valid", "b.jsonl", *several)
    assert done.returncode == 0, done.stderr
    assert Recipe.load(folder / "s.toml").objective.kind == "multi_label"
    assert "2 examples of 1 words, 2 labels" in (folder / "s.toml").read_text()


@pytest.mark.parametrize(
    ("examples", "preset", "vocab_size", "steps"),
    [
        (200, "tiny", 4_000, range(500, 501)),
        (67_000, "tiny", 8_000, range(500, 2_001)),
        (500_000, "mini", 16_000, range(2_000, 50_001)),
        (9_000_000, "small", 32_000, range(50_000, 200_001)),
    ],
)
def test_it_is_sized_to_the_data(examples, preset, vocab_size, steps):
    from regard.cli.new.encoder import choose_encoder

    choice = choose_encoder(examples, 12.0, 30)
    assert (choice["preset"], choice["vocab_size"]) == (preset, vocab_size)
    assert choice["max_steps"] in steps
    assert choice["max_length"] == 64


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "class"], "there is no field 'class'"),
        (["--kind", "class"], "there is no 'class'"),
        (["--train", "none.tsv"], "none.tsv: there is no example in it"),
        (["-o", "films.toml"], "exists"),
    ],
)
def test_bad_input(call, folder, words, said):
    (folder / "none.tsv").write_text("text\tlabel\n")
    usual = ["--train", "train.tsv", "--valid", "valid.tsv", "-o", "r.toml"]
    done = call("new", "classification", *usual, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (folder / "r.toml").exists()
