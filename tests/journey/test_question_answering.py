"""Questions about texts: check, train, evaluate, answer, start from an encoder, what goes wrong."""

import json
import random
import shutil

import pytest

import regard

NAMES = ["anna", "ben", "carl", "dora", "emil", "fred", "gina", "hans"]
THINGS = ["a red hat", "two old dogs", "the book", "much money", "an idea", "cold tea", "no time"]
SMALL = {
    "tokenizer.vocab_size": 100,
    "model.d_model": 64,
    "model.num_layers": 2,
    "model.embedding.dropout": 0.0,
    "model.layer.dropout": 0.0,
    "model.layer.attention.dropout": 0.0,
    "model.layer.feed_forward.d_ff": 128,
    "data.max_length": 40,
    "data.stride": 10,
    "training.max_steps": 200,
    "training.batch_size": 20,
    "training.schedule.peak": 0.003,
    "training.schedule.warmup_steps": 20,
    "training.precision": "float32",
    "training.checkpoint.every_steps": 100,
    "evaluation.every_steps": 100,
}
FILES = {"data.train.file": "train.json", "data.valid.file": "train.json"}


def settings(more=()):
    return [f"{key}={value}" for key, value in {**SMALL, **FILES, **dict(more)}.items()]


def examples(count, seed=1):
    """Questions about who has what; every fifth text does not say."""
    draw = random.Random(seed)
    for n in range(count):
        names, things = draw.sample(NAMES, 4), draw.sample(THINGS, 4)
        text = " ".join(
            f"{name.title()} has {thing}." for name, thing in zip(names, things, strict=True)
        )
        text += " So it was." * (10 if n % 4 == 3 else 0)
        which = draw.randrange(4)
        if n % 5 == 4:
            other = next(name for name in NAMES if name not in names)
            yield f"What has {other.title()}?", text, None
        else:
            yield f"What has {names[which].title()}?", text, things[which]


def squad(rows):
    made = []
    for question, context, answer in rows:
        answers = [{"text": answer, "answer_start": context.index(answer)}] if answer else []
        one = {"question": question, "answers": answers, "is_impossible": not answers}
        made.append({"context": context, "qas": [one]})
    return {"data": [{"paragraphs": made}]}


def write(directory):
    rows = list(examples(20))
    (directory / "train.json").write_text(json.dumps(squad(rows)))
    table = [{"q": q, "c": c, "a": a or ""} for q, c, a in rows]
    (directory / "train.jsonl").write_text("\n".join(map(json.dumps, table)) + "\n")
    (directory / "text.txt").write_text("".join(context + "\n" for _, context, _ in rows) * 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that knows its 20 questions by heart; tests must not change it."""
    directory = tmp_path_factory.mktemp("questions")
    write(directory)
    more = {key: str(directory / name) for key, name in FILES.items()}
    regard.train("xquad", {**SMALL, **more}, run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


def test_check_and_cost(call, folder):
    done = call("check", "xquad", *settings())
    assert done.returncode == 0, done.stderr
    assert "20 examples to train on" in done.stdout
    assert "windows of at most 40 tokens" in done.stdout
    assert "200 of 200 texts come back" not in done.stdout
    assert "40 of 40 texts come back as they went in" in done.stdout
    assert "exact match" in done.stdout
    assert call("cost", "xquad").returncode == 0


def test_it_answers_what_it_learned(call, run):
    """Each of the 20, in windows too, and says where there is no answer."""
    rows = list(examples(20))
    lines = "".join(f"{question}\t{context}\n" for question, context, _ in rows)
    done = call("answer", run, stdin=lines)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [answer or "" for *_, answer in rows]


def test_evaluate(call, run):
    data = f"file={run.parent / 'train.json'}"
    done = call("evaluate", run, "--data", data, "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert {name: one["value"] for name, one in scores.items()} == {"exact_match": 100, "f1": 100}
    done = call("evaluate", run, "--data", data, "--versus", run)
    assert "difference +0.00" in done.stdout


def test_every_way_in(call, run, tmp_path):
    question, context, answer = next(examples(1))
    start = context.index(answer)
    done = call("answer", run, question, "--context", context, "--json")
    (found,) = map(json.loads, done.stdout.splitlines())
    assert found.pop("score") > 0
    assert found == {
        "question": question,
        "text": answer,
        "start": start,
        "end": start + len(answer),
    }
    (tmp_path / "text.txt").write_text(context + "\n")
    (tmp_path / "asked.txt").write_text(f"{question}\n{question}\n")
    done = call("answer", run, "-c", "text.txt", "-i", "asked.txt", "-o", "out.txt")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out.txt").read_text() == f"{answer}\n{answer}\n"
    lines = json.dumps({"question": question, "context": context}) + "\n"
    assert call("predict", run, stdin=lines).stdout == f"{answer}\n"
    assert call("predict", run, "--context", context, stdin=question).stdout == f"{answer}\n"
    assert call("answer", run, question, "-c", "-", stdin=context).stdout == f"{answer}\n"


def test_a_table_and_new(call, folder):
    fields = ["--question", "q", "--context", "c", "--answer", "a"]
    files = ["--train", "train.jsonl", "--valid", "train.jsonl", *fields]
    done = call("new", "question-answering", *files, "-o", "mine.toml")
    assert done.returncode == 0, done.stderr
    text = (folder / "mine.toml").read_text()
    assert "# 20 questions, 4 without an answer" in text
    assert 'fields = { question = "q", context = "c", answer = "a" }' in text
    short = [one for one in settings() if not one.startswith("data.")]
    done = call("train", "mine.toml", *short, "training.max_steps=2", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run" / "answering.json").read_text()) == {"no_answer": True}
    assert "regard answer" in (folder / "run" / "README.md").read_text()


@pytest.mark.parametrize(("count", "preset"), [(900, "tiny"), (20_000, "mini"), (90_000, "small")])
def test_new_is_sized_to_the_data(count, preset):
    from regard.cli.new.question_answering import Measured, choose

    found = choose(Measured(count, 0, count * 800, 1_300))
    assert (found["preset"], found["window"]) == (preset, 384)
    assert found["warmup_steps"] < found["max_steps"]


def test_resume(call, folder):
    """What a killed run still learns ends in the same bits."""
    steps = {"training.checkpoint.every_steps": 2, "training.max_steps": 4}
    steps |= {"model.layer.dropout": 0.1, "training.batch_size": 6}
    assert call("train", "xquad", *settings(steps), "--run", "run").returncode == 0
    last = folder / "run" / "checkpoints" / "step-000004"
    wanted = (last / "model.safetensors").read_bytes()
    shutil.rmtree(last)
    done = call("train", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "stopped after step 4" in done.stderr
    assert (last / "model.safetensors").read_bytes() == wanted


def test_from_the_weights_of_an_encoder(call, folder):
    sizes = [one for one in settings() if one.startswith(("model.", "tokenizer."))]
    steps = ["training.max_steps=2", "training.batch_size=4", "training.checkpoint.every_steps=2"]
    data = ["data.train.file=text.txt", "data.valid.file=text.txt", "data.max_length=40"]
    done = call("train", "bert-text", *sizes, *steps, *data, "--run", "bert")
    assert done.returncode == 0, done.stderr
    (folder / "ask.toml").write_text(
        'task = "question-answering"\nobjective.kind = "span"\nmodel.start_from = "bert"\n'
        'data = { train = { file = "train.json" }, valid = { file = "train.json" }, '
        "max_length = 40 }\ntraining = { max_steps = 2, batch_size = 4 }\n"
    )
    done = call("train", "ask.toml", "--run", "ask")
    assert done.returncode == 0, done.stderr
    assert "new, drawn at random: head.linear.bias, head.linear.weight" in done.stderr
    assert "not used of that run: head.bias" in done.stderr
    assert (folder / "ask/tokenizer.json").read_text() == (
        folder / "bert/tokenizer.json"
    ).read_text()
    assert call("answer", "ask", "Who?", "--context", "The dog.").returncode == 0


def test_look(call, run, tmp_path):
    question, context, answer = next(examples(1))
    for more in (["-o", "a.html"], ["-o", "a.png", "--target", answer], ["--json"]):
        done = call("look", run, question, "--pair", context, *more)
        assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["target"] == answer
    assert found["loss"] < 0.5
    (view,) = found["views"]
    assert view["queries"][0] == "<s>"
    assert view["queries"].count("</s>") == 2
    assert "<html" in (tmp_path / "a.html").read_text()
    other = call("look", run, question, "--pair", context, "--target", "a cow", "--json")
    assert (other.returncode, "'a cow' does not stand in the text" in other.stderr) == (2, True)
    long = call("look", run, question, "--pair", context * 9, "--json")
    assert (long.returncode, "longer than the model reads at once" in long.stderr) == (2, True)
    alone = call("look", run, question, "--json")
    assert (alone.returncode, "text that it is about are wanted" in alone.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["answer", "{run}"], "Who?\n", "<stdin>:1: a question without a text"),
        (["answer", "{run}"], "Who?\tdog\n\n", "<stdin>:2: a question without a text"),
        (["answer", "{run}"], "Who?\t \n", "<stdin>:1: the text is empty"),
        (["answer", "{run}"], "\tdog\n", "<stdin>:1: the question is empty"),
        (["answer", "{run}"], '{"question": "Who?"}\n', "no JSON object with question and context"),
        (
            ["answer", "{run}"],
            '{"question": 1, "context": "a"}\n',
            "question and context are texts",
        ),
        (["answer", "{run}"], "{Who?\n", "no JSON object with question and context"),
        (["answer", "{run}", " ", "--context", "a"], None, "text 1: the question is empty"),
        (["answer", "{run}", "Who?", "--context", " "], None, "--context: the text is empty"),
        (["answer", "{run}", "Who?", "-c", "no.txt"], None, "there is no such file"),
        (["answer", "{run}", "Who?", "-c", "empty.txt"], None, "the file is empty"),
        (["answer", "{run}", "Who?", "-c", "a.txt", "--context", "a"], None, "not both"),
        (["answer", "{run}", "-c", "-"], "a", "cannot hold the text and the questions"),
        (["answer", "{run}", "Who?", "-i", "a.txt", "--context", "a"], None, "not both"),
        (["answer", "{trained}", "Who?", "--context", "a"], None, "this run does not answer"),
        (["translate", "{run}", "Who?"], None, "this run does not translate"),
        (["train", "xquad", *settings({"data.train.file": "a.txt"})], None, "not SQuAD's form"),
        (
            ["train", "xquad", *settings({"data.train.file": "bad.json"})],
            None,
            "bad.json:1: the answer",
        ),
        (["train", "xquad", *settings({"data.train.file": "t.tsv"})], None, "no field 'answer'"),
        (
            ["train", "xquad", *settings({"data.max_length": 4})],
            None,
            "leave no room for a question",
        ),
        (
            ["train", "xquad", *settings(), "data.train.fields={question='q'}"],
            None,
            "fields name the columns of a table",
        ),
        (
            [
                "train",
                "xquad",
                "data.train.source=a.txt",
                "data.train.target=a.txt",
                "evaluation.metric=loss",
            ],
            None,
            "give data.train.file",
        ),
        (
            ["train", "xquad", *settings({"objective.kind": "classes"})],
            None,
            'write objective.kind = "span"',
        ),
        (
            ["train", "xquad", *settings({"evaluation.metric": "f2"})],
            None,
            "known: error, loss, exact_match, f1",
        ),
        (["evaluate", "{run}", "--data", "file=a.txt"], None, "not SQuAD's form"),
        (["evaluate", "{run}"], None, "the run's recipe names no test data"),
        (
            ["new", "question-answering", "--train", "a.txt", "--valid", "a.txt", "-o", "r.toml"],
            None,
            "not SQuAD's form",
        ),
    ],
)
def test_errors(call, folder, run, trained, arguments, stdin, words):
    (folder / "a.txt").write_text("a\n")
    (folder / "empty.txt").write_text("")
    (folder / "t.tsv").write_text("question\tcontext\nWho?\tdog\n")
    bad = squad([("Who?", "The dog.", "dog")])
    bad["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
    (folder / "bad.json").write_text(json.dumps(bad))
    names = {"{run}": str(run), "{trained}": str(trained)}
    done = call(*(names.get(one, one) for one in arguments), stdin=stdin)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert not (folder / "r.toml").exists()


def test_python(run):
    answerer = regard.load(run)
    assert "<Answerer: BERT" in repr(answerer)
    question, context, answer = next(examples(1))
    assert str(answerer.answer(question, context)) == answer
    assert [one.text for one in answerer.answer([question] * 2, context)] == [answer] * 2
    assert answerer.answer((question, context)).text == answer
    assert answerer.answer([]) == []
