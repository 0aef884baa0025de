"""Classification: check, train, score, use, look inside, start from other runs, what goes wrong."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

import regard

from ._labeled import SIZES, judgments
from ._made import bits, checkpoint, metrics
from .test_ranks import two_ranks

PAIRS = "{text='a', pair='b', label='c'}"
MASKED = """
task = "masked-language-modeling"
data.train = { file = "plain.txt" }
data.valid = { file = "plain.txt" }
tokenizer.kind = "words"
objective.kind = "masked_lm"
model = { preset = "tiny", d_model = 16, num_layers = 2, max_positions = 32 }
training = { max_steps = 3, batch_size = 20, threads = 1, precision = "float32" }
"""
STARTED = """
task = "classification"
data.train = { file = "train.tsv" }
data.valid = { file = "valid.tsv" }
objective.kind = "classes"
training = { max_steps = 3, batch_size = 20, threads = 1, precision = "float32" }
"""
FEW = ["training.max_steps=4", "training.checkpoint.every_steps=4", "evaluation.every_steps=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that tells good films from bad ones; tests must not change it."""
    directory = tmp_path_factory.mktemp("films")
    judgments(directory)
    regard.train(directory / "films.toml", run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    judgments(tmp_path)
    return tmp_path


def write_pairs(directory):
    """Whether the second word is an a."""
    rows = [
        f"{one}\t{other}\t{'yes' if other == 'a' else 'no'}" for one in "abc" for other in "abc"
    ]
    (directory / "pairs.tsv").write_text("\n".join(["a\tb\tc", *rows * 8]) + "\n")
    return [
        word
        for split in SIZES
        for word in (f"data.{split}.file=pairs.tsv", f"data.{split}.fields={PAIRS}")
    ]


def test_check(call, folder):
    done = call("check", "films.toml")
    assert done.returncode == 0, done.stderr
    assert "160 examples to train on" in done.stdout
    assert re.search(r"labels: \d+ × \w+, \d+ × \w+\n", done.stdout)
    assert "160 of 160 texts come back as they went in" in done.stdout
    assert "a blind guess has ln V = 0.693" in done.stdout
    assert "as it should be" in done.stdout
    assert "30 texts: accuracy" in done.stdout
    assert call("cost", "films.toml").returncode == 0


def test_it_learns_and_is_scored(call, run):
    report = call("evaluate", run, "--json")
    assert report.returncode == 0, report.stderr
    scores = json.loads(report.stdout)["scores"]
    assert {name: one["value"] for name, one in scores.items()} == {
        "accuracy": 100.0,
        "f1": 100.0,
        "matthews": 100.0,
    }
    assert json.loads((run / "labels.json").read_text()) == {"labels": ["neg", "pos"]}
    assert f'regard classify {run} "…"' in (run / "README.md").read_text()
    (shown,) = [line for line in metrics(run) if line["event"] == "evaluation"][-1]["samples"]
    assert shown["target"] == shown["output"]


def test_texts_as_words_files_and_a_pipe(call, run, tmp_path):
    assert call("classify", run, "a great film", "the dull film").stdout == "pos\nneg\n"
    assert call("classify", run, stdin="a great film\n\na poor story\n").stdout.split("\n")[
        ::2
    ] == [
        "pos",
        "neg",
    ]
    (tmp_path / "in.txt").write_text("fine\nawful\n")
    done = call("predict", run, "-i", "in.txt", "-o", "out.txt", "--checkpoint", "last")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out.txt").read_text() == "pos\nneg\n"
    assert call("classify", run, stdin="").stdout == ""


def test_json(call, run):
    done = call("classify", run, "a great film", "--json", "--precision", "bfloat16")
    found = json.loads(done.stdout)
    assert found.keys() == {"text", "label", "probabilities"}
    assert (found["text"], found["label"]) == ("a great film", "pos")
    assert found["probabilities"]["pos"] > 0.5
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_many_lines_keep_their_order(call, run, monkeypatch):
    from regard.cli import files

    monkeypatch.setattr(files, "CHUNK", 4)
    texts = [f"{'the film was ' * (n % 2)}{'good' if n % 3 else 'bad'}" for n in range(11)]
    found = call("classify", run, stdin="\n".join(texts)).stdout.split()
    assert found == ["pos" if n % 3 else "neg" for n in range(11)]


def test_pairs(call, folder):
    words = write_pairs(folder)
    done = call("train", "films.toml", *words, "--run", "run")
    assert done.returncode == 0, done.stderr
    done = call("classify", "run", "b\ta", "a\tb", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["text"], one["pair"], one["label"]) for one in found] == [
        ("b", "a", "yes"),
        ("a", "b", "no"),
    ]
    assert call("classify", "run", stdin="c\ta\n").stdout == "yes\n"
    for text, tabs in (("a", 0), ("a\tb\tc", 2)):
        done = call("classify", "run", "-i", "-", stdin=f"a\tb\n{text}\n")
        assert done.returncode == 2
        assert "<stdin>:2: the model reads pairs of texts, with a TAB between" in done.stderr
        assert f"here are {tabs} TAB(s)" in done.stderr
    assert call("look", "run", "a", "--pair", "b", "-o", "pair.html").returncode == 0
    done = call("look", "run", "a", "-o", "one.html")
    assert (done.returncode, "pairs of texts are wanted" in done.stderr) == (2, True)


def test_any_number_of_labels(call, folder):
    rows = [{"text": w, "label": ["nice one", "short"]} for w in ("good", "fine")]
    rows += [{"text": w, "label": []} for w in ("the film", "a story")]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    words = [f"data.{split}.file=a.jsonl" for split in SIZES]
    words += ["objective.kind=multi_label", "evaluation.metric=exact_match"]
    done = call("train", "films.toml", *words, "--run", "run")
    assert done.returncode == 0, done.stderr
    scores = json.loads(call("evaluate", "run", "--json").stdout)["scores"]
    assert {name: one["value"] for name, one in scores.items()} == {"f1": 100, "exact_match": 100}
    found = [
        json.loads(line)
        for line in call("classify", "run", "good", "a film", "--json").stdout.splitlines()
    ]
    assert [one["labels"] for one in found] == [["nice one", "short"], []]
    assert found[0]["probabilities"].keys() == {"nice one", "short"}
    assert call("classify", "run", "good", "the film").stdout == "nice one short\n\n"


def test_numbers(call, folder):
    rows = [f"{word}\t{value}" for word, value in (("good", 2.5), ("fine", 1.25), ("bad", -3))]
    (folder / "n.tsv").write_text("\n".join(["text\tlabel", *rows * 20]) + "\n")
    words = [f"data.{split}.file=n.tsv" for split in SIZES]
    words += ["objective.kind=regression", "evaluation.metric=loss", "training.max_steps=80"]
    done = call("train", "films.toml", *words, "--run", "run")
    assert done.returncode == 0, done.stderr
    scores = json.loads(call("evaluate", "run", "--json").stdout)["scores"]
    assert scores["pearson"]["value"] > 95
    (found,) = map(json.loads, call("classify", "run", "good", "--json").stdout.splitlines())
    assert found["value"] == pytest.approx(2.5, abs=0.5)
    assert call("classify", "run", "good").stdout == f"{found['value']:.4g}\n"
    done = call("evaluate", "run", "--data", "file=train.tsv")
    assert (done.returncode, "train.tsv:2: 'neg' is no number" in done.stderr) == (2, True)


def test_against_another_run(call, run, folder):
    assert call("train", "films.toml", *FEW, "--run", "poor").returncode == 0
    done = call("evaluate", run, "--versus", "poor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["comparisons"]
    assert [one["name"] for one in found] == ["accuracy", "F1", "Matthews"]
    assert all(one["run"] == 100 and one["difference"] > 0 for one in found)
    for name in ("train", "valid"):
        text = (folder / f"{name}.tsv").read_text()
        (folder / f"{name}.tsv").write_text(text.replace("\tneg", "\tno").replace("\tpos", "\tyes"))
    assert call("train", "films.toml", *FEW, "--run", "other").returncode == 0
    done = call("evaluate", run, "--versus", "other")
    assert (done.returncode, "these runs cannot be compared" in done.stderr) == (2, True)


def test_stopped_and_gone_on_is_the_same(call, run, folder):
    words = ["training.max_steps=20", "training.schedule.kind=inverse_sqrt"]
    assert call("train", "films.toml", *words, "--run", "run").returncode == 0
    done = call("train", "run", "--resume", "training.max_steps=40")
    assert done.returncode == 0, done.stderr
    assert bits(folder / "run", 40) == bits(run, 40)


def test_two_ranks(server, folder):
    """No parameter waits for a gradient; the numbers are those of one rank."""
    few = [*FEW, "training.batch_size=10"]
    processes = two_ranks(server, folder, "train", "films.toml", *few, "--run", "split")
    assert [process.wait() for process in processes] == [0, 0], processes[0].output()
    regard.train(folder / "films.toml", [*few, "training.accumulate=2"], run=folder / "whole")
    ours, theirs = (
        load_file(checkpoint(folder / name, 4) / "model.safetensors") for name in ("split", "whole")
    )
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-4)


def test_average_move_and_look(call, run, tmp_path):
    shutil.copytree(run, tmp_path / "moved")
    assert call("classify", "moved", "good").stdout == "pos\n"
    assert call("average", "moved", "--last", 2, "-o", "mean").returncode == 0
    assert call("classify", "mean", "good").stdout == "pos\n"
    for name in ("a.png", "a.html"):
        done = call("look", "moved", "a good film", "-o", name)
        assert (done.returncode, "answer: pos" in done.stdout) == (0, True)
        assert (tmp_path / name).stat().st_size > 1000
    assert call("look", "moved", "a good film", "--target", "neg", "-o", "b.html").returncode == 0
    done = call("look", "moved", "a good film", "--target", "nice", "-o", "c.html")
    assert (done.returncode, "there is no class 'nice'" in done.stderr) == (2, True)


class TestStart:
    """From a masked-language model, and from other classifiers."""

    @pytest.fixture
    def pretrained(self, call, folder):
        texts = [line.partition("\t")[0] for line in (folder / "train.tsv").read_text().split("\n")]
        (folder / "plain.txt").write_text("\n".join(texts))
        (folder / "masked.toml").write_text(MASKED)
        (folder / "started.toml").write_text(STARTED)
        done = call("train", "masked.toml", "--run", "masked")
        assert done.returncode == 0, done.stderr
        return folder / "masked"

    def test_from_a_masked_language_model(self, call, pretrained, folder):
        start = "model.start_from=masked"
        done = call("train", "started.toml", start, "--run", "plain")
        assert done.returncode == 0, done.stderr
        new = "head.linear.bias, head.linear.weight, pooler.linear.bias, pooler.linear.weight"
        assert f"new, drawn at random: {new}\n" in done.stderr
        assert (folder / "plain" / "tokenizer.json").read_bytes() == (
            pretrained / "tokenizer.json"
        ).read_bytes()
        assert call("classify", "plain", "a good film").returncode == 0
        done = call("train", "started.toml", start, "tokenizer.kind=chars", "--run", "other")
        assert (done.returncode, "tokenizer.kind" in done.stderr) == (2, True)

    def test_freezing_rates_and_adapters(self, call, pretrained, folder):
        start = "model.start_from=masked"
        done = call("check", "started.toml", start, "training.layer_decay=0.5")
        assert done.returncode == 0, done.stderr
        assert "head.linear" in done.stdout
        frozen = "model.freeze=['embedding', 'encoder.layers.0']"
        done = call("train", "started.toml", start, frozen, "--run", "frozen")
        assert (done.returncode, "trains: " in done.stderr) == (0, True)
        before, after = (
            dict(regard.load(folder / name).model.named_parameters())
            for name in ("masked", "frozen")
        )
        moved = {
            name for name in after if name in before and not torch.equal(before[name], after[name])
        }
        assert any(name.startswith("encoder.layers.1.") for name in moved)
        assert not any(name.startswith(("embedding.", "encoder.layers.0.")) for name in moved)
        adapter = "model.adapter={kind='lora', rank=2}"
        assert call("train", "started.toml", start, adapter, "--run", "adapted").returncode == 0
        assert call("merge", "adapted", "-o", "merged").returncode == 0
        both = [
            call("classify", name, "a good film", "--json").stdout for name in ("adapted", "merged")
        ]
        one, other = (json.loads(text)["probabilities"]["pos"] for text in both)
        assert one == pytest.approx(other, abs=1e-5)

    def write(self, folder, start, old=("neg", "pos"), new=("neg", "pos")):
        (folder / "started.toml").write_text(f'model.start_from = "{start}"\n{STARTED}')
        for split in ("train", "valid"):
            text = (folder / f"{split}.tsv").read_text()
            for was, becomes in zip(old, new, strict=True):
                text = text.replace(f"\t{was}\n", f"\t{becomes}\n")
            (folder / f"{split}.tsv").write_text(text)

    def first_error(self, run):
        """Before the first step."""
        return next(line["scores"]["error"] for line in metrics(run) if line["step"] == 0)

    def test_the_same_labels_keep_their_head(self, call, run, folder):
        self.write(folder, run)
        done = call("train", "started.toml", "--run", "run")
        assert (done.returncode, "new, drawn at random: none" in done.stderr) == (0, True)
        assert self.first_error(folder / "run") == 0

    def test_the_same_labels_in_another_order(self, call, run, folder):
        """The head's answers stand as they did: its run says which is which."""
        shutil.copytree(run, folder / "old")
        (folder / "old" / "labels.json").write_text('{"labels": ["pos", "neg"]}')
        self.write(folder, "old")
        done = call("train", "started.toml", "--run", "run")
        assert done.returncode == 0, done.stderr
        assert "new, drawn at random: none" in done.stderr
        assert json.loads((folder / "run" / "labels.json").read_text())["labels"] == ["pos", "neg"]
        assert self.first_error(folder / "run") == 1

    @pytest.mark.parametrize("new", [("bad", "good"), ("neg", "zzz")])
    def test_other_labels_get_a_new_head(self, call, run, folder, new):
        self.write(folder, run, new=new)
        done = call("train", "started.toml", "--run", "run")
        assert done.returncode == 0, done.stderr
        assert "new, drawn at random: head.linear.bias, head.linear.weight\n" in done.stderr
        assert json.loads((folder / "run" / "labels.json").read_text())["labels"] == [*new]

    def test_more_labels_get_a_new_head(self, call, run, folder):
        self.write(folder, run)
        with (folder / "train.tsv").open("a") as file:
            file.write("the film\tso\n")
        done = call("train", "started.toml", "--run", "run")
        assert done.returncode == 0, done.stderr
        assert "new, drawn at random: head.linear.bias, head.linear.weight\n" in done.stderr
        assert len(regard.load(folder / "run").labels) == 3


class TestBadInput:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("text\tlabel\na\tneg\nb\tpso\n", "bad.tsv:3: 'pso' is not among the labels"),
            ("text\tlabels\na\tneg\n", "bad.tsv: there is no field 'label'"),
            ("sentence\tlabel\na\tneg\n", "bad.tsv: there is no field 'text'"),
            ("", "bad.tsv: the file is empty"),
            ("text\tlabel\n", "no example is left of 0"),
            ("text\tlabel\na\n", "bad.tsv:2: the row has 1 fields"),
        ],
    )
    def test_validation_data(self, call, folder, text, words):
        (folder / "bad.tsv").write_text(text)
        before = sorted(folder.iterdir())
        done = call("train", "films.toml", "data.valid.file=bad.tsv", "--run", "run")
        assert done.returncode == 2
        assert words in done.stderr
        # What was learned is forgotten: the next attempt begins anew.
        assert sorted(folder.iterdir()) == before

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["data.train.fields={text='txt', label='label'}"], "did you mean 'text'?"),
            (["data.train.fields={text='text'}"], "lacks the key 'label'"),
            (["data.train.fields={text='text', label='text', pare='text'}"], "unknown key 'pare'"),
            (["data.train.file=one.tsv"], "the training data have 1 label(s), at least 2"),
            (["data.train.source=train.tsv"], "a table with the columns text and label"),
            (["data.train.file=train.txt"], "the kind of this table cannot be told"),
            (["objective.kind=next_token"], "is no objective of classification"),
            (["evaluation.metric=pearson"], "there is no score 'pearson'"),
            (
                ["objective.kind=regression", "evaluation.metric=loss"],
                "train.tsv:2: 'neg' is no number",
            ),
        ],
    )
    def test_settings(self, call, folder, words, said):
        (folder / "one.tsv").write_text("text\tlabel\na\tx\nb\tx\n")
        (folder / "train.txt").write_text("a\n")
        done = call("train", "films.toml", *words, "--run", "run")
        assert done.returncode == 2
        assert said in done.stderr

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (
                ["classify", "{run}", "a\tb"],
                "text 1: the model reads one text a line; here are 1 TAB(s)",
            ),
            (["classify", "{trained}", "a"], "this run does not classify"),
            (["tag", "{run}", "a"], "this run does not tag: it was trained for another task"),
            (["classify", "{run}", "a", "-i", "b"], "give texts or a file, not both"),
            (["classify", "{run}", "-i", "nowhere"], "nowhere: there is no such file"),
            (["classify", "{run}", "a", "--precision", "int4"], "int4"),
            (
                ["evaluate", "{run}", "--data", "file=bad.tsv"],
                "bad.tsv:2: 'so' is not among the labels",
            ),
            (["evaluate", "{run}", "--data", "file=none.tsv"], "there is nothing to score"),
            (["evaluate", "{run}", "--versus", "{trained}"], "is a run of translation"),
            (["look", "{run}", "a", "--pair", "b", "-o", "a.png"], "a text is wanted"),
        ],
    )
    def test_use(self, call, run, trained, tmp_path, words, said):
        (tmp_path / "bad.tsv").write_text("text\tlabel\na\tso\n")
        (tmp_path / "none.tsv").write_text("text\tlabel\n\n")
        names = {"{run}": str(run), "{trained}": str(trained)}
        done = call(*(names.get(one, one) for one in words))
        assert done.returncode == 2
        assert said in done.stderr
