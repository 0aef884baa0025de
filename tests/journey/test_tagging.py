"""Tagging: check, train, score, use, look inside, start from another run, what goes wrong."""

import json
import shutil

import pytest

import regard
from regard.recipe import Recipe

from ._labeled import SIZES, names
from ._made import bits

TEXT = "here Anna Jones was, the film Rome"
TAGGED = "here Anna/B-person Jones/I-person was , the film Rome/B-place"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that finds persons and places; tests must not change it."""
    directory = tmp_path_factory.mktemp("names")
    names(directory)
    regard.train(directory / "names.toml", run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    names(tmp_path)
    return tmp_path


def test_check(call, folder):
    done = call("check", "names.toml")
    assert done.returncode == 0, done.stderr
    assert "160 examples to train on" in done.stdout
    assert "a blind guess has ln V = 1.386" in done.stdout
    assert "as it should be" in done.stdout
    assert "30 texts: " in done.stdout


def test_it_learns_and_is_scored(call, run):
    done = call("evaluate", run, "--versus", run, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {name: one["value"] for name, one in report["scores"].items()} == {
        "f1": 100.0,
        "accuracy": 100.0,
    }
    assert report["scores"]["f1"]["signature"].startswith("seqeval ")
    assert [one["p_value"] for one in report["comparisons"]] == [1.0, 1.0]
    assert json.loads((run / "labels.json").read_text()) == {
        "labels": ["B-person", "B-place", "I-person", "O"]
    }


def test_texts_as_words_files_and_a_pipe(call, run, tmp_path):
    assert call("tag", run, TEXT, "Tom").stdout == f"{TAGGED}\nTom/B-person\n"
    assert call("tag", run, stdin=f"\n{TEXT}\n").stdout == f"\n{TAGGED}\n"
    (tmp_path / "in.txt").write_text(f"{TEXT}\n" * 3)
    done = call("predict", run, "-i", "in.txt", "-o", "out.txt")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out.txt").read_text() == f"{TAGGED}\n" * 3


def test_json(call, run):
    found = json.loads(call("tag", run, TEXT, "--json").stdout)
    assert found["text"] == TEXT
    assert found["words"][3:5] == ["was", ","]
    assert found["tags"][1:3] == ["B-person", "I-person"]
    assert found["spans"] == [
        {"label": "person", "text": "Anna Jones", "start": 5, "end": 15},
        {"label": "place", "text": "Rome", "start": 30, "end": 34},
    ]


def test_words_that_are_cut_already(call, run):
    done = call("tag", run, "was, Anna Jones", "--words", "--json")
    found = json.loads(done.stdout)
    assert found["words"] == ["was,", "Anna", "Jones"]
    assert found["spans"] == [{"label": "person", "text": "Anna Jones", "start": 1, "end": 3}]


def test_long_texts_are_tagged_whole(call, run):
    found = json.loads(call("tag", run, "the film was " * 40 + "Rome", "--json").stdout)
    assert len(found["tags"]) == 121
    assert found["spans"][-1]["text"] == "Rome"


def test_a_table_with_lists(call, folder):
    for split in SIZES:
        blocks = (folder / f"{split}.conll").read_text().strip().split("\n\n")
        rows = [[line.split() for line in block.split("\n")] for block in blocks]
        lines = [{"w": [w for w, _ in row], "t": [t for _, t in row]} for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    words = [
        word
        for split in SIZES
        for word in (
            f"data.{split}.file={split}.jsonl",
            f"data.{split}.fields={{words='w', tags='t'}}",
        )
    ]
    done = call("train", "names.toml", *words, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert call("tag", "run", TEXT).stdout == f"{TAGGED}\n"


def test_tags_that_spell_no_spans(call, folder):
    for split in SIZES:
        path = folder / f"{split}.conll"
        text = path.read_text().replace("B-", "").replace("I-", "")
        path.write_text(text)
    done = call("train", "names.toml", "--run", "run")
    assert done.returncode == 2
    assert "evaluation.metric: the tags spell no spans" in done.stderr
    words = ["evaluation.metric=accuracy", "training.max_steps=20"]
    done = call("train", "names.toml", *words, "--run", "run")
    assert done.returncode == 0, done.stderr
    report = json.loads(call("evaluate", "run", "--json").stdout)
    assert report["scores"].keys() == {"accuracy"}
    assert json.loads(call("tag", "run", TEXT, "--json").stdout)["spans"] == []


def test_stopped_and_gone_on_is_the_same(call, run, folder):
    assert call("train", "names.toml", "training.max_steps=20", "--run", "run").returncode == 0
    done = call("train", "run", "--resume", "training.max_steps=40")
    assert done.returncode == 0, done.stderr
    assert bits(folder / "run", 40) == bits(run, 40)


def test_move_and_look(call, run, tmp_path):
    shutil.copytree(run, tmp_path / "moved")
    for name in ("a.png", "a.html"):
        done = call("look", "moved", "here Anna Jones was", "-o", name)
        assert done.returncode == 0, done.stderr
        assert "answer: O B-person I-person O" in done.stdout
        assert (tmp_path / name).stat().st_size > 1000


def test_from_another_tagger(call, run, folder):
    """The head goes on where the tags are the same, and is new where they are not."""
    started = f'task = "tagging"\nmodel.start_from = "{run}"\nobjective.kind = "classes"\n'
    for split in ("train", "valid"):
        started += f'data.{split} = {{ file = "{split}.conll" }}\n'
    (folder / "started.toml").write_text(
        f"{started}training = {{ max_steps = 2, batch_size = 9 }}\n"
    )
    done = call("train", "started.toml", "--run", "same")
    assert (done.returncode, "new, drawn at random: none" in done.stderr) == (0, True)
    for split in ("train", "valid"):
        path = folder / f"{split}.conll"
        path.write_text(path.read_text().replace("-place", "-city"))
    done = call("train", "started.toml", "--run", "other")
    assert done.returncode == 0, done.stderr
    assert "new, drawn at random: head.linear.bias, head.linear.weight\n" in done.stderr


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("bad.conll", "a O\n\nb O\nc B-x\n", "bad.conll:3: 'B-x' is not among the labels"),
            ("bad.conll", "a O\nb\n", "bad.conll:2: the line has 1 column(s)"),
            ("bad.conll", "", "bad.conll: the file is empty"),
            ("bad.conll", "\n\n", "no example is left of 0"),
            (
                "bad.jsonl",
                '{"words": ["a", "b"], "tags": ["O"]}',
                "bad.jsonl:1: every word needs its tag",
            ),
            ("bad.jsonl", '{"words": "a b", "tags": 7}', "bad.jsonl:1: field 'tags' holds no list"),
            ("bad.jsonl", '{"words": ["a"], "tag": ["O"]}', "did you mean 'tag'?"),
        ],
    )
    def test_validation_data(self, call, folder, name, text, words):
        (folder / name).write_text(text)
        done = call("train", "names.toml", f"data.valid.file={name}", "--run", "run")
        assert done.returncode == 2
        assert words in done.stderr
        assert not (folder / "run").exists()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["data.train.file=one.conll"], "the training data have 1 label(s), at least 2"),
            (["data.train.fields={words='a', tags=2}"], "words needs a number from 1"),
            (["data.train.source=a"], "tagging reads a CoNLL file, or a table"),
            (["objective.kind=multi_label"], "no objective of tagging: a word has one tag"),
        ],
    )
    def test_settings(self, call, folder, words, said):
        (folder / "one.conll").write_text("a O\n")
        done = call("train", "names.toml", *words, "--run", "run")
        assert done.returncode == 2
        assert said in done.stderr

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["tag", "{trained}", "a"], "this run does not tag"),
            (["classify", "{run}", "a"], "this run does not classify"),
            (["look", "{run}", "", "-o", "a.png"], "a text is wanted"),
            (["look", "{run}", "a", "--pair", "b", "-o", "a.png"], "a text is wanted"),
            (["look", "{run}", "a", "--target", "O", "-o", "a.png"], "takes no target"),
            (["look", "{run}", "a " * 40, "-o", "a.png"], "the text has 40 tokens"),
            (
                ["evaluate", "{run}", "--data", "file=bad.conll"],
                "bad.conll:1: the line has 1 column",
            ),
        ],
    )
    def test_use(self, call, run, trained, tmp_path, words, said):
        (tmp_path / "bad.conll").write_text("a\n")
        known = {"{run}": str(run), "{trained}": str(trained)}
        done = call(*(known.get(one, one) for one in words))
        assert done.returncode == 2
        assert said in done.stderr


class TestNew:
    def test_a_recipe_that_runs(self, call, folder):
        files = [word for split in SIZES for word in (f"--{split}", f"{split}.conll")]
        done = call("new", "tagging", *files, "-o", "mine.toml")
        assert (done.returncode, done.stderr) == (0, "")
        assert "160 sentences of 6 words, 4 tags" in (folder / "mine.toml").read_text()
        recipe = Recipe.load(folder / "mine.toml")
        assert (recipe.evaluation.metric, recipe.data.train.fields) == ("f1", None)
        done = call("check", "mine.toml", "tokenizer.vocab_size=60", "training.threads=1")
        assert (done.returncode, "all is well" in done.stdout) == (0, True), done.stderr

    def test_columns(self, call, folder):
        (folder / "a.txt").write_text("a x NOUN O\nb x VERB B-q\n")
        columns = ["--words", 1, "--tags", 3, "-o", "r.toml"]
        done = call("new", "tagging", "--train", "a.txt", "--valid", "a.txt", *columns)
        assert done.returncode == 0, done.stderr
        recipe = Recipe.load(folder / "r.toml")
        assert recipe.data.train.fields == {"words": 1, "tags": 3}
        assert recipe.evaluation.metric == "accuracy"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--words", "1"], "give --words and --tags together"),
            (["--train", "bad.conll"], "bad.conll:1: the line has 1 column(s)"),
            (["--train", "none.conll"], "none.conll: there is no sentence in it"),
            (["-o", "names.toml"], "exists"),
        ],
    )
    def test_bad_input(self, call, folder, words, said):
        (folder / "bad.conll").write_text("a\n")
        (folder / "none.conll").write_text("\n")
        usual = ["--train", "train.conll", "--valid", "valid.conll", "-o", "r.toml"]
        done = call("new", "tagging", *usual, *words)
        assert done.returncode == 2
        assert said in done.stderr
