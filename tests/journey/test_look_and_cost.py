"""``regard look`` and ``regard cost`` on a real run, and what they refuse."""

import json
import re
import struct
import subprocess
import sys

import pytest

from regard.cli import entry

PAIRS = [
    ("the old dog sees a cat", "der alte Hund sieht eine Katze"),
    ("a cat sees the dog", "eine Katze sieht den Hund"),
    ("the dog sleeps", "der Hund schläft"),
    ("a cat sleeps", "eine Katze schläft"),
]
RECIPE = """
task = "translation"
[data]
train = { source = "en", target = "de" }
valid = { source = "en", target = "de" }
[tokenizer]
kind = "words"
[model]
d_model = 16
num_layers = 2
layer.attention.num_heads = 2
layer.feed_forward.d_ff = 16
max_positions = 12
[training]
max_steps = 2
batch_tokens = 64
threads = 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps: a real one, if no good one."""
    directory = tmp_path_factory.mktemp("journey")
    for name, side in (("en", 0), ("de", 1)):
        lines = "".join(f"{pair[side]}\n" for pair in PAIRS)
        (directory / name).write_text(lines, encoding="utf-8")
    (directory / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    made = directory / "run"
    command = [sys.executable, "-m", "regard", "train", directory / "recipe.toml", "--run", made]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture
def regard(capfd):
    """The command line in this process: exit status, output, errors."""

    def call(*arguments):
        capfd.readouterr()
        status = entry.run([str(argument) for argument in arguments])
        seen = capfd.readouterr()
        return status, seen.out, seen.err

    return call


class TestLook:
    def test_page(self, regard, run, tmp_path):
        path = tmp_path / "dog.html"
        status, out, _ = regard("look", run, "the old dog sleeps", "-o", path)
        assert status == 0
        assert f"written: {path}" in out
        page = path.read_text(encoding="utf-8")
        assert "the old dog sleeps" in page
        assert '"importance":null' in page

    def test_a_files_name_is_a_text(self, regard, run, tmp_path):
        words = tmp_path / "words.txt"
        words.write_text("the old dog sleeps")
        status, _, err = regard("look", run, words, "-o", tmp_path / "words.html")
        assert (status, f"{str(words)!r} is read as a text, not as the file" in err) == (0, True)

    def test_target_tells_what_heads_are_worth(self, regard, run):
        arguments = ("look", run, "the old dog sleeps", "--json")
        status, out, _ = regard(*arguments, "--target", "der alte Hund schläft")
        assert status == 0
        found = json.loads(out)
        assert found["target"] == "der alte Hund schläft"
        assert [view["id"] for view in found["views"]] == ["encoder", "decoder", "cross"]
        cross = found["views"][2]
        assert cross["queries"] == ["<s>", "der", "alte", "Hund", "schläft"]
        assert cross["keys"] == ["the", "old", "dog", "sleeps", "</s>"]
        assert cross["predicts"] == ["der", "alte", "Hund", "schläft", "</s>"]
        heads = [head for layer in cross["layers"] for head in layer["heads"]]
        assert len(heads) == 4
        assert any(abs(head["importance"]) > 1e-4 for head in heads)
        for head in heads:
            assert all(abs(sum(row) - 1000) <= 3 for row in head["weights"])

    def test_image_of_all_and_of_one_head(self, regard, run, tmp_path):
        pytest.importorskip("matplotlib")
        for only in ((), ("--only", "cross"), ("--only", "cross/2/1")):
            path = tmp_path / f"{len(only)}{only[-1:]}.png".replace("/", "-")
            status, _, _ = regard("look", run, "a cat sleeps", "-o", path, *only)
            assert status == 0
            width, height = struct.unpack(">II", path.read_bytes()[16:24])
            assert min(width, height) > 200

    def test_positions(self, regard, run, tmp_path):
        path = tmp_path / "positions.html"
        status, _, _ = regard("look", run, "--positions", "-o", path)
        assert status == 0
        assert '"views":[]' in path.read_text(encoding="utf-8")

    def test_neighbors(self, regard, run):
        status, out, _ = regard("look", run, "--neighbors", "dog")
        assert status == 0
        assert "source embedding" in out
        assert re.search(r"\w+ +-?0\.\d{3}", out)
        status, out, _ = regard("look", run, "--neighbors", "dog", "--json")
        rows = json.loads(out)["neighbors"]["source_embedding"]
        assert len(rows) == 10
        assert "dog" not in {row["token"] for row in rows}
        assert [row["cosine"] for row in rows] == sorted((r["cosine"] for r in rows), reverse=True)

    def test_an_existing_file_stays_as_it_is(self, regard, run, tmp_path):
        path = tmp_path / "mine.html"
        path.write_text("mine", encoding="utf-8")
        status, _, error = regard("look", run, "a cat", "-o", path)
        assert status == 2
        assert "exists already" in error
        assert path.read_text(encoding="utf-8") == "mine"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["a cat"], "nowhere to draw"),
            ([], "nothing to look at"),
            (["-o", "x.html"], "nothing to look at"),
            (["--target", "eine Katze", "-o", "x.html"], "a target needs the text"),
            (["a cat", "-o", "x.pdf"], "no kind of picture"),
            (["a cat", "-o", "no/such/x.html"], "no such directory"),
            (["", "-o", "x.html"], "empty text"),
            (["a " * 20, "-o", "x.html"], "at most 11"),
            (["a cat", "--target", "eine " * 20, "-o", "x.html"], "at most 11"),
            (["--neighbors", "zebra"], "does not know 'zebra'"),
            (["--neighbors", "dog", "-o", "x.png"], "printed, not drawn"),
            (["a cat", "--only", "cross", "-o", "x.html"], "--only is for images"),
            (["a cat", "--only", "cross/2", "-o", "x.png"], "names no head"),
            (["a cat", "--only", "cross/9/1", "-o", "x.png"], "no such head"),
            (["a cat", "--only", "cross/0/1", "-o", "x.png"], "no such head"),
            (["a cat", "--only", "nonsense", "-o", "x.png"], "no view 'nonsense'"),
        ],
    )
    def test_errors(self, regard, run, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        status, _, error = regard("look", run, *arguments)
        assert status == 2
        assert message in error
        assert "Traceback" not in error
        assert list(tmp_path.iterdir()) == []

    def test_no_such_run(self, regard, tmp_path):
        status, _, error = regard("look", tmp_path / "nowhere", "a cat", "-o", tmp_path / "x.html")
        assert status == 2
        assert "nowhere" in error


class TestCost:
    def test_a_run(self, regard, run):
        status, out, _ = regard("cost", run, "--lengths", "8,4", "--json")
        assert status == 0
        found = json.loads(out)
        vocabulary = len({word for pair in PAIRS for text in pair for word in text.split()}) + 4
        embedding = next(part for part in found["parts"] if "head" in part["name"])
        assert embedding["parameters"] == 16 * vocabulary
        assert [row["length"] for row in found["lengths"]] == [4, 8]
        assert found["steps"][0]["tokens"] == 32  # of each side, of 64 together

    def test_a_built_in_recipe_in_words(self, regard):
        status, out, _ = regard("cost", "wmt14-base")
        assert status == 0
        assert "63,082,496 parameters, vocabulary 37,000" in out
        assert "L(4d² + 2d·d_ff) + V·d" in out
        assert re.search(r"decoder cross-attention +6,303,744 +6,291,456", out)
        assert re.search(r"2,048\*.*\n.*4,096\*", out)
        assert "longer than model.max_positions = 1,024 allows" in out

    def test_settings_change_the_model(self, regard):
        _, out, _ = regard("cost", "wmt14-base", "model.num_layers=1", "--lengths", "8", "--json")
        assert json.loads(out)["parameters"] == 37_000 * 512 + (63_082_496 - 37_000 * 512) // 6

    def test_moments_are_those_of_the_recipes_optimizer(self, regard):
        def moments(*words):
            _, out, _ = regard("cost", "multi30k-text-to-text", *words, "--lengths", 8, "--json")
            return json.loads(out)["training"][0]["moments"]

        assert 0 < moments() < moments("training.optimizer.kind=adam") / 10

    def test_a_vocabulary_that_nobody_knows_is_assumed(self, regard):
        _, out, _ = regard("cost", "copy-digits", "--lengths", "8")
        assert "assumed: " in out
        _, out, _ = regard("cost", "copy-digits", "model.vocab_size=14", "--lengths", "8")
        assert "assumed" not in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere"], "no such recipe"),
            (["wmt14-base", "--lengths", "many"], "no list of lengths"),
            (["wmt14-base", "--lengths", "0"], "from 1 on"),
            (["wmt14-base", "model.num_layrs=3"], "model.num_layrs: unknown key"),
            (["wmt14-base", "model.layer.attention.num_heads=7"], "do not divide"),
        ],
    )
    def test_errors(self, regard, arguments, message):
        status, _, error = regard("cost", *arguments)
        assert status == 2
        assert message in error
        assert "Traceback" not in error
