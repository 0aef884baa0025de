"""Pre-training of an encoder: check, train, evaluate, fill, resume, what goes wrong."""

import json
import math
import random
import shutil

import pytest

import regard

MASK = "<mask>"
FACTS = {"dog": "barks", "cat": "meows", "cow": "moos", "bee": "hums"}
SMALL = {
    "tokenizer.vocab_size": 80,
    "model.d_model": 32,
    "model.num_layers": 2,
    "model.positions": "rotary",
    "model.embedding.dropout": 0.0,
    "model.layer.dropout": 0.0,
    "model.layer.attention.dropout": 0.0,
    "model.layer.feed_forward.d_ff": 64,
    "data.max_length": 32,
    "training.max_steps": 450,
    "training.batch_tokens": 1024,
    "training.schedule.peak": 0.005,
    "training.schedule.warmup_steps": 20,
    "training.precision": "float32",
    "training.checkpoint.every_steps": 150,
    "evaluation.every_steps": 150,
}
FILES = {"data.train.file": "train.txt", "data.valid.file": "valid.txt"}


AROUND = "the bee hums. {} the cow moos. the cat meows."
"""Texts as long as those that it learned from."""


def settings(more=()):
    return [f"{key}={value}" for key, value in {**SMALL, **FILES, **dict(more)}.items()]


def sentences(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        animal = draw.choice(list(FACTS))
        yield f"The {animal} {FACTS[animal]}."


def write(directory):
    for name, count in (("train", 600), ("valid", 60)):
        rows = list(sentences(count, count))
        (directory / f"{name}.txt").write_text("\n".join(rows) + "\n")
        documents = [json.dumps({"story": " ".join(rows[n : n + 3])}) for n in range(0, count, 3)]
        (directory / f"{name}.jsonl").write_text("\n".join(documents) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that knows which animal says what; tests must not change it."""
    directory = tmp_path_factory.mktemp("masked")
    write(directory)
    more = {key: str(directory / name) for key, name in FILES.items()}
    regard.train("bert-text", {**SMALL, **more}, run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("more", [{}, {"objective.next_sentence": "true"}])
def test_check_and_cost(call, folder, more):
    done = call("check", "bert-text", *settings(more))
    assert done.returncode == 0, done.stderr
    length = 28 if more else 29
    assert f"tokens to train on, in blocks of {length}" in done.stdout
    assert "1 of 1 texts come back as they went in" in done.stdout
    assert "first loss" in done.stdout
    assert "as it should be" in done.stdout
    assert "masked accuracy" in done.stdout
    assert call("cost", "bert-text").returncode == 0


def test_it_fills(call, run):
    texts = [AROUND.format(f"the {animal} {MASK}.") for animal in FACTS]
    done = call("fill", run, *texts)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        AROUND.format(f"the {one} {says}.") for one, says in FACTS.items()
    ]
    lines = [AROUND.format(f"The {MASK} barks."), AROUND.format(f"{MASK} cow {MASK}.")]
    done = call("fill", run, "--json", "--top", 2, stdin="\n".join(lines) + "\n")
    one, two = map(json.loads, done.stdout.splitlines())
    assert (one["source"], one["text"]) == (lines[0], AROUND.format("the dog barks."))
    assert two["text"] == AROUND.format("the cow moos.")
    assert [len(mask) for mask in two["masks"]] == [2, 2]
    assert one["masks"][0][0]["token"] == "dog"
    assert 0.9 < one["masks"][0][0]["probability"] < 1


def test_lists_of_guesses(call, run, tmp_path):
    (tmp_path / "in.txt").write_text(AROUND.format(f"the dog {MASK}.") + "\n")
    done = call("predict", run, "-i", "in.txt", "-o", "out.txt", "--top", 3)
    assert (done.returncode, done.stdout) == (0, "")
    text, guesses = (tmp_path / "out.txt").read_text().splitlines()
    assert text == AROUND.format("the dog barks.")
    assert guesses.startswith("  barks 0.9")
    assert len(guesses.split()) == 6


def test_evaluate(call, run):
    arguments = ("evaluate", run, "--data", f"file={run.parent / 'valid.txt'}", "--json")
    first, again = (json.loads(call(*arguments).stdout)["scores"] for _ in range(2))
    assert first == again  # the same tokens are hidden
    scores = {name: one["value"] for name, one in first.items()}
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["masked_accuracy"] > 70
    assert "15 % hidden, texts of 32" in first["loss"]["signature"]
    # What the run said of the same data while it trained.
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["event"] == "evaluation"][-1]
    assert scores["loss"] == pytest.approx(last["scores"]["nll"], rel=1e-4)


def test_masked_accuracy_is_what_is_guessed(run):
    """By the model's whole answer, token by token."""
    from regard.load import open_task

    task, model, _ = open_task(run)
    examples = task.read({"file": str(run.parent / "valid.txt")})
    source = task.batches_of(task.in_memory(examples))
    right = count = 0
    for k in range(source.num_micro_batches(0)):
        batch = source.micro_batch(0, k)
        guessed = model(batch["ids"], mask=batch["mask"]).argmax(dim=-1)
        for guess, label in zip(guessed.flatten(), batch["labels"].flatten(), strict=True):
            if label != -100:
                right, count = right + int(guess == label), count + 1
    score = task.evaluate(model, examples).scores["masked_accuracy"].value
    assert score == pytest.approx(100 * right / count)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "chars"])
def test_documents_and_other_objectives(call, folder, kind):
    data = {"data.train.file": "train.jsonl", "data.valid.file": "valid.jsonl"}
    fields = [f"data.{split}.fields={{text='story'}}" for split in ("train", "valid")]
    more = {**data, "training.max_steps": 2, "objective.next_sentence": "true"}
    more |= {"training.precision": "bfloat16", "evaluation.metric": "masked_accuracy"}
    if kind == "chars":
        more["tokenizer.kind"] = kind
        words = [one for one in settings(more) if "vocab_size" not in one]
        words = ["tokenizer={kind='chars'}", *(w for w in words if "tokenizer" not in w)]
    else:
        whole = {"objective.whole_word": "true", "tokenizer.vocab_size": 300}
        words = settings({**more, **whole, "tokenizer.kind": kind})
    done = call("train", "bert-text", *words, *fields, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert "200 documents, " in done.stderr
    assert "next_sentence" in done.stderr
    assert call("fill", "run", f"the {MASK} barks").returncode == 0
    assert (
        call("evaluate", "run", "--data", "file=valid.jsonl", "fields.text=story").returncode == 0
    )


def test_new(call, folder):
    files = ["--train", "train.jsonl", "--valid", "valid.jsonl", "--field", "story"]
    done = call("new", "masked-language-modeling", *files, "-o", "mine.toml")
    assert done.returncode == 0, done.stderr
    text = (folder / "mine.toml").read_text()
    assert 'train = { file = "train.jsonl", fields = { text = "story" } }' in text
    short = [one for one in settings() if not one.startswith("data.")]
    done = call("train", "mine.toml", *short, "training.max_steps=2", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert "regard fill" in (folder / "run" / "README.md").read_text()


@pytest.mark.parametrize(
    ("characters", "preset", "vocab"),
    [
        (10**5, "tiny", 2_000),
        (10**7, "tiny", 8_000),
        (10**8, "mini", 16_000),
        (10**10, "base", 30_000),
    ],
)
def test_new_is_sized_to_the_data(characters, preset, vocab):
    from regard.cli.new.language_modeling import Measured
    from regard.cli.new.masked_language_modeling import choose

    found = choose(Measured(characters, 60))
    assert (found["preset"], found["vocab_size"]) == (preset, vocab)
    assert found["warmup_steps"] < found["max_steps"]
    assert found["batch_tokens"] * found["accumulate"] >= 4_096


def test_resume(call, folder):
    """What a killed run still learns ends in the same bits."""
    steps = {"training.checkpoint.every_steps": 2, "training.max_steps": 4}
    steps |= {"objective.next_sentence": "true", "model.layer.dropout": 0.1}
    assert call("train", "bert-text", *settings(steps), "--run", "run").returncode == 0
    last = folder / "run" / "checkpoints" / "step-000004"
    wanted = (last / "model.safetensors").read_bytes()
    shutil.rmtree(last)
    done = call("train", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "stopped after step 4" in done.stderr
    assert (last / "model.safetensors").read_bytes() == wanted


def test_from_the_weights_of_a_masked_language_model(call, run, folder):
    (folder / "on.toml").write_text(
        f'task = "masked-language-modeling"\nobjective.kind = "masked_lm"\n'
        f'model.start_from = "{run}"\n'
        'data = { train = { file = "train.txt" }, max_length = 32 }\n'
        "training = { max_steps = 2, batch_size = 4 }\n"
    )
    done = call("train", "on.toml", "--run", "on")
    assert done.returncode == 0, done.stderr
    assert "new, drawn at random: none" in done.stderr


def test_from_weights_whose_tokenizer_has_no_mask(call, folder):
    row = {"question": "Who?", "context": "The dog barks.", "answer": "The dog"}
    (folder / "asked.jsonl").write_text(json.dumps(row) + "\n")
    start = (
        'task = "{}"\nobjective.kind = "{}"\nmodel.{}\ndata.train.file = "{}"\n'
        "data.max_length = 32\ntraining = {{ max_steps = 1, batch_size = 4 }}\n"
    )
    given = ("question-answering", "span", 'preset = "tiny"', "asked.jsonl")
    (folder / "ask.toml").write_text(start.format(*given) + 'tokenizer.kind = "chars"\n')
    assert call("train", "ask.toml", "--run", "ask").returncode == 0
    given = ("masked-language-modeling", "masked_lm", 'start_from = "ask"', "train.txt")
    (folder / "on.toml").write_text(start.format(*given))
    for verb in ("check", "train"):
        done = call(verb, "on.toml")
        assert done.returncode == 2, done.stderr
        assert "the tokenizer has no entry <mask>" in done.stderr
        assert "start from one that has it" in done.stderr


def test_look(call, run, tmp_path):
    for more in (["-o", "a.html"], ["-o", "a.png", "--target", "barks"], ["--json"]):
        done = call("look", run, AROUND.format(f"the dog {MASK}."), *more)
        assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["target"] == "barks"
    (view,) = found["views"]
    assert view["queries"][:9] == [
        *("<s>", "the", "bee", "hums", "##.", "the", "dog", MASK, "##."),
    ]
    assert found["loss"] < 0.2


def test_python(run):
    filler = regard.load(run)
    text = AROUND.format(f"the bee {MASK}.")
    assert str(filler.fill(text)) == text.replace(MASK, "hums")
    import torch

    ids = torch.tensor([filler.tokenizer.encode("the bee")])
    assert filler.model(ids).shape == (1, 2, filler.tokenizer.vocab_size)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fill", "{run}", f"the {MASK}", "the dog"], "text 2: there is no <mask> in 'the dog'"),
        (["fill", "{run}", "-i", "train.txt"], "train.txt:1: there is no <mask>"),
        (["fill", "{run}", MASK + " dog" * 40], "the text has 41 tokens, the model reads 30"),
        (["fill", "{run}", MASK, "--top", "0"], "Invalid value for '--top'"),
        (["fill", "{trained}", MASK], "this run does not fill: it was trained for another task"),
        (["generate", "{run}", "the"], "this run does not generate"),
        (["look", "{run}", "the dog", "--json"], "there is no <mask>"),
        (["look", "{run}", f"{MASK} {MASK}", "--target", "dog", "--json"], "is not one token"),
        (["evaluate", "{run}", "--data", "file=empty.txt"], "the file is empty"),
        (["train", "bert-text", *settings({"data.train.file": "short.txt"})], "a block takes 30"),
        (["train", "bert-text", *settings({"data.max_length": 3})], "leave no room for text"),
        (["train", "bert-text", *settings({"objective.mask_rate": 1.5})], "mask_rate lies between"),
        (
            ["train", "bert-text", *settings({"objective.whole_words": "true"})],
            "did you mean objective.whole_word?",
        ),
        (
            ["train", "bert-text", *settings({"objective.kind": "next_token"})],
            'write objective.kind = "masked_lm"',
        ),
        (
            [
                *("train", "bert-text", "tokenizer={kind='chars'}", "objective.whole_word=true"),
                *(f"data.{split}.file=train.txt" for split in ("train", "valid")),
            ],
            "does not tell where words begin",
        ),
        (
            [
                *("new", "masked-language-modeling", "--train", "train.jsonl"),
                *("--valid", "valid.jsonl", "-o", "r.toml"),
            ],
            "name the field of the text",
        ),
    ],
)
def test_errors(call, folder, run, trained, arguments, words):
    (folder / "empty.txt").write_text("")
    (folder / "short.txt").write_text("hello world\n")
    names = {"{run}": str(run), "{trained}": str(trained)}
    done = call(*(names.get(one, one) for one in arguments))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
