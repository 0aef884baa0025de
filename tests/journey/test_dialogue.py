"""A dialogue model: check, train, evaluate, chat from a pipe and in a terminal, what goes wrong."""

import json
import math
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import regard
from regard.data import read_lines

SGD = Path(__file__).parents[3] / "shared" / "data" / "dialog"
NUMBERS = ["one", "two", "six", "ten"]
SMALL = {
    "model.d_model": 32,
    "model.num_layers": 1,
    "model.positions": "rotary",
    "model.max_positions": 64,
    "model.embedding.dropout": 0.0,
    "model.layer.dropout": 0.0,
    "model.layer.attention.dropout": 0.0,
    "model.layer.feed_forward.d_ff": 64,
    "tokenizer.kind": "chars",
    "training.max_steps": 200,
    "training.batch_size": 8,
    "training.schedule.peak": 0.01,
    "training.schedule.warmup_steps": 10,
    "training.checkpoint.every_steps": 100,
    "training.precision": "float32",
    "evaluation.every_steps": 100,
    "decoding.top_k": 1,
}
FILES = {"data.train.file": "train.jsonl", "data.valid.file": "valid.jsonl"}
ROLES = ["data.roles={user='<|user|>', assistant='<|assistant|>'}", "data.answers=assistant"]
FIELDS = [f"data.{split}.fields={{turns='messages'}}" for split in ("train", "valid")]


def settings(more=()):
    given = {**{k: v for k, v in SMALL.items() if k != "tokenizer.kind"}, **FILES, **dict(more)}
    words = [f"{key}={value}" for key, value in given.items()]
    return ["tokenizer={kind='chars'}", *words, *ROLES, *FIELDS]


def talk(*numbers):
    """The answer says the number again."""
    turns = [turn for n in numbers for turn in (("user", n), ("assistant", f"{n}!"))]
    return [{"role": role, "content": text} for role, text in turns]


def write(directory):
    draw = random.Random(3)
    made = [draw.choices(NUMBERS, k=1 + n % 4) for n in range(80)]
    for split, some in (("train", made), ("valid", made[:16])):
        lines = [json.dumps({"messages": talk(*numbers)}) for numbers in some]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that says each number again; tests must not change it."""
    directory = tmp_path_factory.mktemp("dialogue")
    write(directory)
    more = {key: str(directory / name) for key, name in FILES.items()}
    overrides = [f"{k}={v}" for k, v in more.items()]
    regard.train("sgd-dialogue", [*settings(), *overrides], run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


def test_check_and_cost(call, folder):
    done = call("check", "sgd-dialogue", *settings())
    assert done.returncode == 0, done.stderr
    assert (
        "80 dialogues, 2,280 tokens to train on (of which 1,000 count), in blocks of 64"
        in done.stdout
    )
    assert "200 of 200 texts come back as they went in" in done.stdout
    assert "as it should be" in done.stdout
    assert call("cost", "sgd-dialogue").returncode == 0


def test_the_run_keeps_its_roles(run):
    table = json.loads((run / "dialogue.json").read_text())
    assert table["roles"] == {"user": "<|user|>", "assistant": "<|assistant|>"}
    assert table["answers"] == "assistant"
    tokenizer = json.loads((run / "tokenizer.json").read_text())
    assert tokenizer["model"]["regard"]["extra"] == ["<|user|>", "<|assistant|>"]
    assert "regard chat" in (run / "README.md").read_text()


def test_chat_from_a_pipe(call, run):
    done = call("chat", run, stdin="one\ntwo\n\nsix\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "one!\ntwo!\nsix!\n"
    done = call("chat", run, "--json", stdin="two\n/reset\nten\n/quit\nsix\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [{"text": "two", "answer": "two!"}, {"text": "ten", "answer": "ten!"}]


def test_chat_with_words_and_files(call, run, tmp_path):
    assert call("chat", run, "one", "ten").stdout == "one!\nten!\n"
    (tmp_path / "turns.txt").write_text("six\none\n")
    done = call("chat", run, "-i", "turns.txt", "-o", "out.txt", "--temperature", 0.1, "--seed", 3)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out.txt").read_text() == "six!\none!\n"


def test_old_turns_are_forgotten_and_it_is_said_once(call, run):
    done = call("chat", run, "--max-new-tokens", 10, stdin="one\ntwo\n" * 8)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:3] == ["one!", "two!", "one!"]
    assert len(done.stdout.splitlines()) == 16
    assert done.stderr.count("the oldest turns are forgotten") == 1


def test_predict_chooses_by_the_run(call, run, trained):
    assert call("predict", run, "--json", stdin="two\n").stdout == (
        '{"text": "two", "answer": "two!"}\n'
    )
    assert call("predict", trained, "1 2", "--beam", 2).stdout == (
        call("translate", trained, "1 2", "--beam", 2).stdout
    )
    assert "Talk with a model" in call("predict", run, "--help").stdout
    assert call("predict", run, "--bem", 2).returncode == 2
    done = call("predict", "nowhere")
    assert (done.returncode, "there is no such run" in done.stderr) == (2, True)


def test_evaluate(call, run):
    valid = f"file={run.parent / 'valid.jsonl'}"
    done = call("evaluate", run, "--data", valid, "fields.turns=messages", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    scores = {name: one["value"] for name, one in report["scores"].items()}
    assert report["examples"] == 16
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    # Of each answer four characters are told, and five tokens count: its end too.
    bits = scores["loss"] * 5 / 4 / math.log(2)
    assert scores["bits_per_character"] == pytest.approx(bits)
    assert scores["bits_per_character"] < 0.2


def test_resume(call, run, folder):
    short = settings({"training.max_steps": 4, "training.checkpoint.every_steps": 4})
    assert call("train", "sgd-dialogue", *short, "--run", "run").returncode == 0
    done = call("train", "run", "--resume", "training.max_steps=8")
    assert done.returncode == 0, done.stderr
    assert "stopped after step 8" in done.stderr


def test_from_the_weights_of_a_language_model(call, folder):
    """Its tokenizer has no markers: they are read as text."""
    (folder / "plain.txt").write_text("one! two! six! ten! <|user|> <|assistant|>\n" * 40)
    sizes = [f"{key}={value}" for key, value in SMALL.items() if key.startswith("model.")]
    steps = ["training.max_steps=3", "training.checkpoint.every_steps=3"]
    data = ["data.train.file=plain.txt", "data.valid.file=plain.txt"]
    done = call("train", "shakespeare-char", *sizes, *steps, *data, "--run", "plain")
    assert done.returncode == 0, done.stderr
    (folder / "talk.toml").write_text(
        'task = "dialogue"\nobjective.kind = "next_token"\nmodel.start_from = "plain"\n'
        'data.train = { file = "train.jsonl", fields = { turns = "messages" } }\n'
        "training = { max_steps = 3, batch_size = 4 }\n"
    )
    done = call("train", "talk.toml", "--run", "talk")
    assert done.returncode == 0, done.stderr
    assert "new, drawn at random: none" in done.stderr
    done = call("chat", "talk", "one", "--strategy", "greedy", "--max-new-tokens", 5)
    assert done.returncode == 0, done.stderr


def test_look(call, run):
    done = call("look", run, "six", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["target"] == "six!"
    assert found["views"][0]["queries"][:2] == ["</s>", "<|user|>"]
    done = call("look", run, "--neighbors", "s")
    assert (done.returncode, "cosine" in done.stdout) == (0, True)


def test_python(run):
    chat = regard.load(run)
    assert "<Chat: GPT" in repr(chat)
    assert chat.chat("six") == "six!"
    assert "".join(chat.chat([("user", "ten")], stream=True)) == "ten!"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": [{"role": "usr", "content": "a"}]}', "did you mean 'user'"),
        ('{"messages": [', "train.jsonl:81: the line is not valid JSON"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "the dialogue has no answer"),
        ('{"messages": []}', "train.jsonl:81: a dialogue is a list of turns, at least one"),
        ('{"messages": [{"role": "user", "content": ""}]}', "turn 1, of 'user', is empty"),
        ('{"turns": []}', "there is no field 'messages'"),
    ],
)
def test_bad_data(call, folder, line, words):
    with (folder / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    done = call("train", "sgd-dialogue", *settings())
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "train.jsonl:81" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chat", "{run}", "one " * 16], "the turn has 66 tokens, the model reads 64"),
        (["chat", "{run}", "a", "--top-p", "2"], "top_p"),
        (["chat", "{trained}", "a"], "this run does not chat: it was trained for another task"),
        (["translate", "{run}", "a"], "this run does not translate"),
        (["train", "sgd-dialogue", *settings(), "data.answers=nobody"], "none of the roles"),
        (["train", "sgd-dialogue", *settings(), "data.roles={a='<a>'}"], "two roles or more"),
        (
            ["train", "sgd-dialogue", *settings(), "data.roles={a='x', assistant='y'}"],
            "'x' cannot be a special entry",
        ),
        (["train", "sgd-dialogue", *settings({"data.train.file": "train.tsv"})], "JSON lines"),
        (["train", "sgd-dialogue", *settings(), "data.train.source=a"], "one file, and the field"),
        (
            ["train", "shakespeare-char", "data.answers=user", "data.train.file=train.jsonl"],
            "the task 'language-modeling' has no such key",
        ),
        (["train", "sgd-dialogue", *settings({"model.max_positions": 5000})], "a block takes"),
    ],
)
def test_errors(call, folder, run, trained, arguments, words):
    (folder / "train.tsv").write_text("user\ta\n")
    (folder / "a").write_text("a\n")
    names = {"{run}": str(run), "{trained}": str(trained)}
    done = call(*(names.get(one, one) for one in arguments))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


class Terminal:
    """A command that believes to be in a terminal."""

    def __init__(self, *arguments):
        self.screen, side = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "regard", *map(str, arguments)],
            stdin=side,
            stdout=side,
            stderr=side,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"},
            start_new_session=True,
        )
        os.close(side)
        self.seen = ""

    def wait_for(self, text, seconds=60):
        """Read until a text has come; it is forgotten then."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.screen], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.screen, 4096).decode()
                except OSError:
                    break
        assert text in self.seen, self.seen
        self.seen = self.seen.partition(text)[2]

    def type(self, text):
        os.write(self.screen, text.encode())


def test_a_dialogue_in_a_terminal(run):
    terminal = Terminal("chat", run, "--max-new-tokens", 10)
    try:
        terminal.wait_for("/reset begins anew")
        terminal.wait_for("> ")
        for number in ("one", "six"):
            terminal.type(f"{number}\n")
            terminal.wait_for(f"{number}!")
            terminal.wait_for("> ")
        terminal.type("/help\n")
        terminal.wait_for("/quit or Ctrl-D ends")
        terminal.type("/reset\n")
        terminal.wait_for("> ")
        terminal.type("x" * 80 + "\n")
        terminal.wait_for("say it in fewer words")
        terminal.wait_for("> ")
        terminal.type("two\n")
        terminal.wait_for("two!")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.screen)


def test_ctrl_c_stops_an_answer(run, monkeypatch, capsys):
    from regard.cli import chat as verb
    from regard.tasks.chat import Chat

    def pieces(self, turns, *, stream, **options):
        heard.append([tuple(turn) for turn in turns])
        yield "on"
        if len(heard) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        yield "e!"

    heard, typed = [], iter(["one", "two", "/quit"])
    monkeypatch.setattr(Chat, "chat", pieces)
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    verb._converse(verb.Talk(regard.load(run), {"max_new_tokens": 5}))
    assert capsys.readouterr().out.splitlines()[1:] == ["on …", "one!"]
    assert heard[1] == [("user", "one"), ("assistant", "on"), ("user", "two")]


@pytest.mark.skipif(not SGD.exists(), reason="SGD is not here: ../shared/data/dialog")
def test_real_dialogues(call, tmp_path):
    lines = [
        line for _, line in zip(range(60), read_lines(next(SGD.glob("sgd_train*"))), strict=False)
    ]
    (tmp_path / "talk.jsonl").write_text("\n".join(lines) + "\n")
    files = [f"data.{split}.file=talk.jsonl" for split in ("train", "valid")]
    small = ["tokenizer.vocab_size=500", "model.num_layers=1", "training.max_steps=2"]
    done = call("train", "sgd-dialogue", *files, *small, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert "60 dialogues" in done.stderr
    assert call("chat", "run", "I am hungry.", "--max-new-tokens", 3).returncode == 0
