"""``regard new``: recipes for one's own data, sized to them, that load."""

import json

import pytest

from regard.recipe import Recipe


@pytest.fixture
def files(tmp_path):
    """Small parallel files; returns the options of ``regard new translation``."""
    sizes = {"train": 40, "valid": 7}
    options = []
    for split, lines in sizes.items():
        for side in ("source", "target"):
            path = tmp_path / f"{split}.{side}"
            path.write_text("".join(f"{side} line number {n}\n" for n in range(lines)))
            options += [f"--{split}-{side}", path.name]
    return options


class TestNew:
    def test_it_writes_a_recipe_that_loads(self, call, files, tmp_path):
        (tmp_path / "deep").mkdir()
        done = call("new", "translation", *files, "-o", "deep/recipe.toml")
        assert (done.returncode, done.stderr) == (0, "")
        assert "regard check deep/recipe.toml" in done.stdout
        recipe = Recipe.load(tmp_path / "deep" / "recipe.toml")
        recipe.check()
        assert recipe.data.train.source == str(tmp_path / "train.source")
        text = (tmp_path / "deep" / "recipe.toml").read_text()
        assert "# 40 pairs" in text
        assert recipe.model["preset"] == "tiny"

    @pytest.mark.parametrize(
        ("pairs", "preset", "vocab_size", "steps"),
        [
            (300, "tiny", 2_000, range(500, 501)),
            (29_000, "tiny", 8_000, range(6_000, 8_001)),
            (200_000, "base", 10_000, range(10_000, 50_001)),
            (4_500_000, "base", 32_000, range(50_000, 100_001)),
        ],
    )
    def test_it_is_sized_to_the_data(self, pairs, preset, vocab_size, steps):
        from regard.cli.new.translation import Measured, choose

        choice = choose(Measured(pairs, 25.0))
        assert (choice.preset, choice.vocab_size) == (preset, vocab_size)
        assert choice.max_steps in steps
        assert choice.warmup_steps < choice.max_steps
        assert choice.evaluate * 10 <= choice.max_steps

    def test_odd_names_survive(self, call, files, tmp_path):
        odd = 'tra"in  # \\x.source'
        (tmp_path / "train.source").rename(tmp_path / odd)
        files[files.index("train.source")] = odd
        assert call("new", "translation", *files, "-o", "r.toml").returncode == 0
        assert Recipe.load(tmp_path / "r.toml").data.train.source == str(tmp_path / odd)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda d: (d / "r.toml").write_text("mine"), "exists"),
            (lambda d: (d / "train.target").unlink(), "train.target: there is no such file"),
            (lambda d: (d / "train.target").write_text("x\n"), "has 40 lines"),
            (lambda d: (d / "valid.source").write_text(""), "the file is empty"),
            (lambda d: (d / "valid.source").write_bytes(b"ok\n\xe4\n"), "valid.source:2"),
        ],
    )
    def test_bad_input(self, call, files, tmp_path, change, words):
        change(tmp_path)
        before = sorted(path.name for path in tmp_path.iterdir())
        done = call("new", "translation", *files, "-o", "r.toml")
        assert done.returncode == 2
        assert words in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    def test_a_table_is_no_side(self, call, files, tmp_path):
        (tmp_path / "t.tsv").write_text("a\tb\n")
        given = [word if word != "train.source" else "t.tsv" for word in map(str, files)]
        assert "t.tsv" in given
        done = call("new", "translation", *given, "-o", "r.toml")
        assert done.returncode == 2
        assert "t.tsv: is a table (.tsv)" in done.stderr

    def test_half_a_test_set(self, call, files):
        done = call("new", "translation", *files, "--test-source", "valid.source", "-o", "r.toml")
        assert done.returncode == 2
        assert "--test-target" in done.stderr

    def test_a_missing_directory(self, call, files):
        done = call("new", "translation", *files, "-o", "no/r.toml")
        assert done.returncode == 2
        assert "no such directory" in done.stderr


TALK = [["USER", "Hi you"], ["ROBOT 2", "Hello"]]


@pytest.fixture
def talk(tmp_path):
    """Files of dialogues; returns the options of ``regard new dialogue``."""
    for name, count in (("train", 30), ("valid", 4)):
        line = json.dumps({"turns": TALK}) + "\n"
        (tmp_path / f"{name}.jsonl").write_text("\n" + line * count)
    return ["--train", "train.jsonl", "--valid", "valid.jsonl", "-o", "r.toml"]


class TestNewOfBlocks:
    def test_language_modeling(self, call, tmp_path):
        (tmp_path / "train.txt").write_text("to be or not to be\n" * 2000)
        (tmp_path / "valid.txt").write_text("to be\n" * 100)
        given = ["--train", "train.txt", "--valid", "valid.txt", "--test", "valid.txt"]
        done = call("new", "language-modeling", *given, "-o", "r.toml")
        assert (done.returncode, done.stderr) == (0, "")
        recipe = Recipe.load(tmp_path / "r.toml")
        recipe.check()
        assert (recipe.task, recipe.tokenizer.kind) == ("language-modeling", "chars")
        assert recipe.data.test.file == str(tmp_path / "valid.txt")
        assert "# 38,000 characters\ntrain" in (tmp_path / "r.toml").read_text()

    def test_documents(self, call, tmp_path):
        (tmp_path / "t.jsonl").write_text(json.dumps({"st ory": "once upon"}) + "\n")
        given = ["--train", "t.jsonl", "--valid", "t.jsonl", "-o", "r.toml"]
        done = call("new", "language-modeling", *given, "--field", "st ory")
        assert (done.returncode, done.stderr) == (0, "")
        recipe = Recipe.load(tmp_path / "r.toml")
        assert recipe.data.train.fields == {"text": "st ory"}
        (tmp_path / "r.toml").unlink()
        done = call("new", "language-modeling", *given)
        assert (done.returncode, "--field NAME" in done.stderr) == (2, True)
        assert not (tmp_path / "r.toml").exists()

    @pytest.mark.parametrize(
        ("characters", "kind", "preset"),
        [(10_000, "chars", "nano-cpu"), (30_000_000, "bpe", "nano"), (3e9, "bpe", "gpt2")],
    )
    def test_it_is_sized_to_the_text(self, characters, kind, preset):
        from regard.cli.new.language_modeling import Measured, choose

        found = choose(Measured(int(characters), 65))
        assert (found["kind"], found["preset"]) == (kind, preset)
        assert choose(Measured(int(characters), 5_000))["kind"] == "bpe"
        assert found["warmup_steps"] < found["max_steps"]
        assert found["batch_size"] * found["accumulate"] >= 1

    def test_dialogue(self, call, talk, tmp_path):
        done = call("new", "dialogue", *talk)
        assert (done.returncode, done.stderr) == (0, "")
        assert "regard check r.toml" in done.stdout
        recipe = Recipe.load(tmp_path / "r.toml")
        recipe.check()
        assert recipe.data.roles == {"USER": "<|user|>", "ROBOT 2": "<|robot-2|>"}
        assert recipe.data.answers == "ROBOT 2"
        assert recipe.model["max_positions"] == 128
        assert "# 30 dialogues\ntrain" in (tmp_path / "r.toml").read_text()

    def test_messages_and_the_role_that_answers(self, call, talk, tmp_path):
        turns = [("assistant", "Hi"), ("user", "Hello"), ("ü", "x")]
        messages = [{"role": role, "content": text} for role, text in turns]
        for name in ("train", "valid"):
            (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": messages}))
        assert call("new", "dialogue", *talk).returncode == 0
        recipe = Recipe.load(tmp_path / "r.toml")
        assert recipe.data.train.fields == {"turns": "messages"}
        assert recipe.data.answers == "assistant"
        assert list(recipe.data.roles.values()) == ["<|role1|>", "<|role2|>", "<|role3|>"]
        (tmp_path / "r.toml").unlink()
        assert call("new", "dialogue", *talk, "--answers", "user").returncode == 0
        assert Recipe.load(tmp_path / "r.toml").data.answers == "user"

    @pytest.mark.parametrize(
        ("text", "more", "words"),
        [
            ("{", [], "train.jsonl:1: the line is not valid JSON"),
            ("\n", [], "there is no dialogue in it"),
            (json.dumps({"turns": TALK[:1]}), ["--answers", "x"], "no turn is of 'x'"),
            (json.dumps({"turns": [["USER", ""]]}), [], "train.jsonl:1: turn 1"),
            (json.dumps({"talk": TALK}), [], "there is no field 'turns'"),
        ],
    )
    def test_bad_dialogues(self, call, talk, tmp_path, text, more, words):
        (tmp_path / "train.jsonl").write_text(text)
        done = call("new", "dialogue", *talk, *more)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert not (tmp_path / "r.toml").exists()
