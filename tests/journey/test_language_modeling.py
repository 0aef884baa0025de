"""A language model from text to text: check, train, evaluate, generate, and what goes wrong."""

import json
import math

import pytest

import regard

LINE = "abcdefghijklmnopqrstuvwxyz 0123456789.\n"
"""Each character says which comes next."""
SMALL = {
    "model.d_model": 32,
    "model.num_layers": 1,
    "model.max_positions": 32,
    "model.layer.feed_forward.d_ff": 64,
    "training.max_steps": 150,
    "training.batch_size": 8,
    "training.schedule.peak": 0.01,
    "training.schedule.warmup_steps": 10,
    "training.checkpoint.every_steps": 75,
    "training.precision": "float32",
    "evaluation.every_steps": 75,
}
FILES = {"data.train.file": "train.txt", "data.valid.file": "valid.txt"}


def settings(more=()):
    return [f"{key}={value}" for key, value in {**SMALL, **FILES, **dict(more)}.items()]


def write(directory):
    (directory / "train.txt").write_text(LINE * 60)
    (directory / "valid.txt").write_text(LINE * 5)
    stories = [json.dumps({"story": LINE.strip(), "n": n}) for n in range(60)]
    (directory / "train.jsonl").write_text("\n".join(stories) + "\n")
    (directory / "valid.jsonl").write_text("\n".join(stories[:5]) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that knows its line by heart; tests must not change it."""
    directory = tmp_path_factory.mktemp("language")
    write(directory)
    more = {key: str(directory / name) for key, name in FILES.items()}
    regard.train("shakespeare-char", {**SMALL, **more}, run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


def test_check_and_cost(call, folder):
    done = call("check", "shakespeare-char", *settings())
    assert done.returncode == 0, done.stderr
    assert "1 of 1 texts come back as they went in" in done.stdout
    assert "2,340 tokens to train on, in blocks of 32" in done.stdout
    assert "bits per character" in done.stdout
    assert call("cost", "shakespeare-char").returncode == 0


def test_it_learns_and_writes_on(call, run):
    done = call("generate", run, "abc", "--strategy", "greedy", "--max-new-tokens", 75)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 2 * LINE + "\n"
    done = call("generate", run, "abc", "xyz 0", "--json", "--top-k", 1)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["prompt"] for one in found] == ["abc", "xyz 0"]
    assert all(len(one["text"]) == len(one["prompt"]) + 200 for one in found)
    assert found[1]["text"].startswith("xyz 0123456789.\nabcdef")


def test_prompts_from_files(call, run, tmp_path):
    (tmp_path / "prompts.txt").write_text("abc\nklm\n")
    done = call(
        *("generate", run, "-i", "prompts.txt", "-o", "out.jsonl", "--json"),
        *("--strategy", "greedy", "--max-new-tokens", 8),
    )
    assert (done.returncode, done.stdout) == (0, "")
    written = [
        json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]
    ]
    assert written == ["abcdefghijk", "klmnopqrstu"]
    piped = call("generate", run, "--strategy", "greedy", "--max-new-tokens", 8, stdin="abc\nklm\n")
    assert piped.stdout.splitlines() == written
    done = call("generate", run, "abc", "--max-length", 8)
    assert (done.returncode, "give --max-new-tokens" in done.stderr) == (2, True)


def test_evaluate(call, run):
    done = call("evaluate", run, "--data", f"file={run.parent / 'valid.txt'}", "--json")
    assert done.returncode == 0, done.stderr
    scores = {name: one["value"] for name, one in json.loads(done.stdout)["scores"].items()}
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["bits_per_character"] == pytest.approx(scores["bits_per_byte"])
    characters = 5 * len(LINE)
    bits = scores["loss"] * (characters - 1) / math.log(2)
    assert scores["bits_per_character"] == pytest.approx(bits / characters)
    assert scores["bits_per_character"] < 0.1


def test_documents(call, folder):
    data = {"data.train.file": "train.jsonl", "data.valid.file": "valid.jsonl"}
    fields = ["data.train.fields={text='story'}", "data.valid.fields={text='story'}"]
    arguments = [*settings(data), *fields]
    done = call("train", "shakespeare-char", *arguments, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert "60 documents, 2,340 tokens to train on" in done.stderr
    done = call(
        "generate", "run", "--strategy", "greedy", stdin=""
    )  # begins and ends as a document
    assert done.stdout == LINE


def test_python(run):
    generator = regard.load(run)
    assert "Generator: GPT" in repr(generator)
    text = generator.generate("abc", strategy="greedy", max_new_tokens=10)
    assert text == "abcdefghijklm"
    pieces = generator.generate("abc", strategy="greedy", max_new_tokens=10, stream=True)
    assert "".join(pieces) == "defghijklm"
    ids = generator.tokenizer.encode("abc")
    import torch

    assert generator.model(torch.tensor([ids])).shape == (1, 3, generator.tokenizer.vocab_size)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["translate", "{run}", "a"], "this run does not translate"),
        (["generate", "{run}", "a" * 40], "the prompt has 40 tokens, the model reads 32"),
        (["generate", "{run}", "a", "--top-p", "2"], "top_p"),
        (["generate", "nowhere", "a"], "there is no such run"),
        (["evaluate", "{run}", "--data", "file=missing.txt"], "there is no such file"),
        (["evaluate", "{run}", "--data", "file=empty.txt"], "the file is empty"),
        (
            ["train", "shakespeare-char", *settings({"objective.kind": "cross_entropy"})],
            'write objective.kind = "next_token"',
        ),
        (
            ["train", "shakespeare-char", *settings({"data.train.file": "short.txt"})],
            "the text has 12 tokens, a block takes 33",
        ),
        (
            ["train", "shakespeare-char", *settings({"data.train.file": "train.jsonl"})],
            "there is no field 'text'",
        ),
    ],
)
def test_errors(call, folder, run, arguments, words):
    (folder / "empty.txt").write_text("")
    (folder / "short.txt").write_text("hello world\n")
    done = call(*(str(one).replace("{run}", str(run)) for one in arguments))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_look(call, run, tmp_path):
    for arguments in (["-o", "a.html"], ["-o", "a.png", "--target", "defg"], ["--json"]):
        done = call("look", run, "abc", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["target"] == "defghijklmno"
    (view,) = found["views"]
    assert view["queries"] == list("abcdefghijklmn")
    assert view["predicts"] == list("bcdefghijklmno")
    assert found["loss"] < 0.5
    done = call("look", run, "abc", "--target", "defg", "--json")
    heads = json.loads(done.stdout)["views"][0]["layers"][0]["heads"]
    assert all(head["importance"] is not None for head in heads)
    assert call("look", run, "abc", "--target", "d" * 40, "--json").returncode == 2
    assert call("look", run, "--positions", "-o", "p.png").returncode == 0


def test_the_card_says_how_to_use_it(run):
    assert "regard generate" in (run / "README.md").read_text()


def test_another_tasks_run(call, trained):
    done = call("generate", trained, "1 2")
    assert done.returncode == 2
    assert "this run does not generate" in done.stderr


def test_a_text_scores_alike_whatever_the_training_data_were(call, folder):
    """Training on documents, scoring a running text, and the training file gone."""
    data = {"data.train.file": "train.jsonl", "training.max_steps": 2}
    fields = "data.train.fields={text='story'}"
    assert (
        call("train", "shakespeare-char", *settings(data), fields, "--run", "run").returncode == 0
    )
    (folder / "train.jsonl").unlink()
    (evaluation, *_) = reversed(metrics(folder / "run", "evaluation"))
    done = call("evaluate", "run", "--data", "file=valid.txt", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert scores["loss"]["value"] == pytest.approx(evaluation["scores"]["nll"], abs=1e-4)


def test_without_a_strategy_it_streams(call, folder):
    (folder / "mine.toml").write_text(
        'task = "language-modeling"\ntokenizer.kind = "chars"\nobjective.kind = "next_token"\n'
        'data.train.file = "train.txt"\nmodel = { preset = "nano-cpu", max_positions = 32 }\n'
        "training = { max_steps = 1, batch_size = 2, threads = 1 }\n"
    )
    assert call("train", "mine.toml", "--run", "run").returncode == 0
    done = call("generate", "run", "--max-new-tokens", "3", stdin="")
    assert done.returncode == 0, done.stderr


def metrics(run, event):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def test_beside_another_run(call, run):
    done = call(
        "evaluate", str(run), "--data", f"file={run.parent}/valid.txt", "--versus", str(run)
    )
    assert done.returncode == 0, done.stderr
    assert "difference +0.0000" in done.stdout.replace("\n", " ")


def test_many_prompts(run):
    p = regard.load(run)
    one, two = p.predict(["To be", "or not"], strategy="greedy", max_new_tokens=4)
    assert one == p.generate("To be", strategy="greedy", max_new_tokens=4)
    assert two.startswith("or not")
