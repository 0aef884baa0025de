"""Text to text: pairs with a prefix, mixtures, spans of plain text, summaries; what goes wrong."""

import json
import os
import random
import re
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

import regard
from regard.look import look
from regard.training import StepDone

WORDS = ["old", "dog", "sleeps", "near", "red", "house", "small", "river", "runs", "fast"]
SMALL = {
    "tokenizer.vocab_size": 420,
    "model.d_model": 32,
    "model.num_layers": 1,
    "model.layer.feed_forward.d_ff": 64,
    "model.embedding.dropout": 0.0,
    "model.layer.dropout": 0.0,
    "model.layer.attention.dropout": 0.0,
    "model.layer.feed_forward.dropout": 0.0,
    "training.batch_tokens": 512,
    "training.schedule.peak": 0.01,
    "objective.label_smoothing": 0.0,
    "training.schedule.warmup_steps": 20,
    "training.precision": "float32",
    "training.threads": 1,
}
FIRST, LAST = "first: ", "last: "
VERBS = ["translate", "generate", "summarize"]


def write(directory):
    draw = random.Random(0)
    for split, count in (("train", 200), ("valid", 30)):
        lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 6))) for _ in range(count)]
        (directory / f"{split}.text").write_text("\n".join(lines) + "\n")
        for name, place in (("first", 0), ("last", -1)):
            words = [line.split()[place] for line in lines]
            (directory / f"{split}.{name}").write_text("\n".join(words) + "\n")
        rows = [
            {"source": line.split(), "target": [line.split()[0], line.split()[-1]]}
            for line in lines
        ]
        text = "\n".join(map(json.dumps, rows))
        (directory / f"{split}.jsonl").write_text(text + "\n")


def recipe(task="text-to-text", **more):
    return {"task": task, **more}


def pairs(directory, name):
    return {
        split: {
            "source": str(directory / f"{split}.text"),
            "target": str(directory / f"{split}.{name}"),
        }
        for split in ("train", "valid")
    }


def mixture(directory):
    both = pairs(directory, "first"), pairs(directory, "last")
    return [
        {**both[0], "test": both[0]["valid"], "prefix": FIRST, "name": "first", "rate": 3.0},
        {**both[1], "prefix": LAST, "name": "last", "rate": 1.0, "metrics": ["exact_match"]},
    ]


def _data(pair):
    return [f"source={pair[1]}", f"target={pair[3]}"]


def toml(settings, path):
    from regard.recipe.text import write as as_toml

    path.write_text(as_toml(settings))
    return path


def train(directory, run, settings, steps, listeners=(), resume=False):
    more = {
        **SMALL,
        "training.max_steps": steps,
        "training.checkpoint.every_steps": 10,
        "evaluation.every_steps": steps,
    }
    path = toml({**settings, "training": {"max_steps": steps}}, directory / "recipe.toml")
    if "start_from" in settings.get("model", {}):
        more = {key: value for key, value in more.items() if not key.startswith("model.")}
        del more["tokenizer.vocab_size"]
    return regard.train(path, more, run=run, listeners=listeners, resume=resume)


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """A run that was pre-trained a little; tests must not change it."""
    directory = tmp_path_factory.mktemp("spans")
    write(directory)
    files = {split: {"file": str(directory / f"{split}.text")} for split in ("train", "valid")}
    settings = recipe(data={**files, "max_length": 24}, objective={"kind": "span_corruption"})
    train(directory, directory / "run", settings, 40)
    return directory / "run"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run of two tasks; tests must not change it."""
    directory = tmp_path_factory.mktemp("mixed")
    write(directory)
    train(directory, directory / "run", recipe(mixture=mixture(directory)), 400)
    return directory / "run"


class TestMixture:
    def test_it_knows_its_tasks_apart(self, mixed, call):
        found = call("evaluate", mixed, "--json")
        assert found.returncode == 0, found.stderr
        scores = json.loads(found.stdout)["scores"]
        assert scores["first.exact_match"]["value"] > 60
        assert "last.exact_match" not in scores  # it has no test data
        p = regard.load(mixed)
        texts = (mixed.parent / "valid.text").read_text().splitlines()
        made = p.translate(texts, prefix=FIRST)
        assert sum(made[n] == text.split()[0] for n, text in enumerate(texts)) > 18
        text = texts[0]
        done = call("generate", mixed, "--prefix", FIRST, text, "--json")
        assert json.loads(done.stdout) == {"prompt": text, "text": made[0]}
        same = call("translate", mixed, text, "--prefix", FIRST)
        assert same.stdout == made[0] + "\n"
        assert p.summarize([text, text], prefix=[FIRST, FIRST]) == [made[0]] * 2
        assert p.translate(["", text, " "], prefix=FIRST) == ["", made[0], ""]

    def test_a_prefix_says_the_task_or_is_missed(self, mixed, call):
        pair = ["--source", mixed.parent / "valid.text", "--target", mixed.parent / "valid.first"]
        scores = []
        for words in ([*pair, "--prefix", FIRST], ["--data", *_data(pair), f"prefix={FIRST}"]):
            done = call("evaluate", mixed, *words, "--json")
            assert (done.returncode, "several tasks" in done.stderr) == (0, False), done.stderr
            scores.append(json.loads(done.stdout)["scores"])
        assert scores[0] == scores[1]
        assert scores[0]["exact_match"]["value"] > 60
        said = "this run knows several tasks; --prefix says which: one of 'first: ', 'last: '"
        for words in (["evaluate", mixed, *pair], *([v, mixed, "old"] for v in VERBS)):
            done = call(*words)
            assert (done.returncode, said in done.stderr) == (0, True), done.stderr
        done = call("evaluate", mixed, "--prefix", FIRST)
        assert done.returncode == 2
        assert "each task of the mixture has its own" in done.stderr

    def test_a_prefix_that_no_task_has_is_noticed(self, mixed, spans, call):
        said = "on no task with the prefix 'frist: '; did you mean 'first: '? known: 'first: ', 'la"
        pair = ["--source", mixed.parent / "valid.text", "--target", mixed.parent / "valid.first"]
        commands = [
            ["evaluate", mixed, *pair, "--prefix", "frist: "],
            ["evaluate", mixed, "--data", *_data(pair), "prefix=frist: "],
            ["look", mixed, "old dog", "--prefix", "frist: ", "-o", "frist.html"],
            *([verb, mixed, "old dog", "--prefix", "frist: "] for verb in VERBS),
        ]
        for words in commands:
            done = call(*words)
            assert (done.returncode, said in done.stderr) == (0, True), (words, done.stderr)
        for run, prefix in ((mixed, ""), (spans, "any: ")):  # the texts say it; none is known
            done = call("translate", run, FIRST + "old dog", "--prefix", prefix)
            assert (done.returncode, done.stderr) == (0, "")

    def test_look_reads_a_prefix_and_says_whose_the_target_is(self, mixed, call, tmp_path):
        done = call("look", mixed, "old dog", "--prefix", LAST, "-o", "a.html")
        assert (done.returncode, done.stderr) == (0, "")
        made = regard.load(mixed).translate("old dog", prefix=LAST)
        assert f"answer: {made}\n" in done.stdout
        page = (tmp_path / "a.html").read_text()
        names = regard.load(mixed).look_inputs("old dog", prefix=LAST)["tokens"]["encoder"]
        assert json.dumps(names[:-1], ensure_ascii=False, separators=(",", ":"))[:-1] in page
        done = call("look", mixed, "old dog", "--target", "red", "--prefix", LAST, "-o", "b.html")
        assert (done.returncode, "answer:" in done.stdout) == (0, False)
        assert "given target: red\n" in done.stdout
        picture = look(regard.load(mixed), "old dog", target="red", prefix=LAST)
        assert (picture.told, "red (given)" in str(picture.figure().texts)) == ("red (given)", True)
        done = call("look", mixed, "--prefix", LAST, "--positions", "-o", "c.html")
        assert (done.returncode, "--prefix needs a text" in done.stderr) == (2, True)

    def test_generate_reads_and_limits_as_the_other_verbs_do(self, mixed, call, tmp_path):
        texts = "old dog sleeps\nred house\n"
        same = [call(verb, mixed, "--prefix", FIRST, stdin=texts) for verb in VERBS]
        assert [one.returncode for one in same] == [0, 0, 0]
        assert len(same[1].stdout.splitlines()) == 2
        assert same[0].stdout == same[1].stdout == same[2].stdout
        short = [
            call("generate", mixed, "old dog", "--prefix", FIRST, limit, 1).stdout
            for limit in ("--max-length", "--max-new-tokens")
        ]
        assert short[0] == short[1]
        assert short[0].strip() == regard.load(mixed).translate("old", prefix=FIRST, max_length=1)
        done = call("generate", mixed, "a", "--max-length", "4", "--max-new-tokens", "3")
        assert (done.returncode, "both limit the output" in done.stderr) == (2, True)
        (tmp_path / "texts.txt").write_text(texts)
        for verb in VERBS:
            done = call(verb, mixed, "texts.txt", "--prefix", FIRST)
            assert done.returncode == 0
            assert "'texts.txt' is read as a text, not as the file: -i texts.txt" in done.stderr

    def test_check_tells_of_each_task(self, call, tmp_path):
        write(tmp_path)
        tasks = mixture(tmp_path)
        long = " ".join(WORDS * 40)
        tasks[1]["train"] = {**tasks[1]["train"], "source": str(tmp_path / "long.text")}
        (tmp_path / "long.text").write_text((long + "\n") * 200)
        toml(recipe(mixture=tasks, training={"max_steps": 1}), tmp_path / "each.toml")
        done = call("check", "each.toml", *(f"{key}={value}" for key, value in SMALL.items()))
        assert done.returncode == 0, done.stderr
        told = " ".join(done.stdout.split())
        for words in (
            r"task first, prefix 'first: ': 200 pairs; source [\d.]+ tokens on average, \d+ at ",
            r"task first, prefix 'first: ': 30 pairs; .*; target [\d.]+, \d+ at most",
            r"task last, prefix 'last: ': 0 pairs data",
            r"task last, prefix 'last: ': 30 pairs; ",
        ):
            assert re.search(words, told), (words, told)

    def test_an_export_says_what_it_does_not_keep(self, mixed, call):
        done = call("export", "hf", mixed, "-o", "theirs")
        assert done.returncode == 0, done.stderr
        assert "'first: ' or 'last: ' must stand before each text" in done.stdout

    def test_tasks_without_a_prefix_are_noticed(self, call, tmp_path):
        write(tmp_path)
        tasks = [{**one, "prefix": ""} for one in mixture(tmp_path)]
        toml(recipe(mixture=tasks, training={"max_steps": 1}), tmp_path / "same.toml")
        done = call("check", "same.toml", *(f"{key}={value}" for key, value in SMALL.items()))
        assert done.returncode == 0, done.stderr
        assert "the model cannot tell them apart" in done.stdout

    def test_scores_are_of_each_task_and_their_mean(self, mixed):
        lines = (mixed / "metrics.jsonl").read_text().splitlines()
        assert any("loss" in line for line in lines)
        from regard.load import open_task

        task, model, _ = open_task(mixed)
        examples = task.read()
        found = task.evaluate(model, examples, {"strategy": "greedy"}).scores
        assert {"first.bleu", "first.rougeL", "last.exact_match", "bleu", "exact_match"} <= set(
            found
        )
        assert "last.bleu" not in found
        both = [found[f"{name}.exact_match"].value for name in ("first", "last")]
        assert found["exact_match"].value == pytest.approx(sum(both) / 2)
        names = [score.name for score in found.values()]
        assert "mean: BLEU" in names
        assert len(set(names)) == len(names)
        assert examples.first(2).parts == [0, 0]

    def test_stopped_and_resumed_it_ends_in_the_same_bits(self, tmp_path):
        write(tmp_path)
        settings = recipe(mixture=mixture(tmp_path))

        def stop(event):
            if isinstance(event, StepDone) and event.step == 13:
                os.kill(os.getpid(), signal.SIGINT)

        whole = train(tmp_path, tmp_path / "whole", settings, 30)
        half = train(tmp_path, tmp_path / "half", settings, 30, listeners=[stop])
        assert half.result.step == 13
        train(tmp_path, tmp_path / "half", settings, 30, resume=True)
        ends = [
            load_file(directory / "checkpoints" / "step-000030" / "model.safetensors")
            for directory in (whole.path, tmp_path / "half")
        ]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda s: s["mixture"][0].update(rate=None), "give all, or none"),
            (lambda s: s["mixture"][0].update(name="last"), "same name"),
            (lambda s: s["mixture"][0].update(metrics=["accuracy"]), "there is no score"),
            (lambda s: s["mixture"][0].update(rat=1.0), "unknown key"),
            (lambda s: s.update(data={"train": s["mixture"][0]["train"]}), "exclude each other"),
            (lambda s: s.update(task="translation"), "no such key"),
        ],
    )
    def test_what_cannot_be(self, call, tmp_path, change, words):
        write(tmp_path)
        settings = recipe(mixture=mixture(tmp_path), training={"max_steps": 1})
        change(settings)
        settings["mixture"] = [
            {key: value for key, value in one.items() if value is not None}
            for one in settings["mixture"]
        ]
        toml(settings, tmp_path / "bad.toml")
        done = call("check", "bad.toml")
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr

    def test_data_without_a_target_name_their_entry(self, call, tmp_path):
        write(tmp_path)
        settings = recipe(mixture=mixture(tmp_path), training={"max_steps": 1})
        del settings["mixture"][1]["valid"]["target"]
        toml(settings, tmp_path / "bad.toml")
        done = call("check", "bad.toml")
        assert done.returncode == 2
        assert "mixture.2.valid: the data setting lacks the key 'target'" in done.stderr


def test_lists_of_a_mixture_are_read_as_those_of_summaries(tmp_path):
    """The first target is learned, scores take every one; plain pairs beside them are as ever."""
    from regard.load import open_task

    write(tmp_path)
    (tmp_path / "train.ndjson").write_text("\n" + (tmp_path / "train.jsonl").read_text())
    lists = {
        "train": {"file": str(tmp_path / "train.ndjson")},
        "valid": {"file": str(tmp_path / "valid.jsonl")},
    }
    scored = ["bleu", "chrf", "exact_match", "f1"]
    tasks = [
        mixture(tmp_path)[0],
        {**lists, "prefix": "both: ", "name": "both", "rate": 1.0, "metrics": scored},
    ]
    run = train(tmp_path, tmp_path / "run", recipe(mixture=tasks), 2)
    task, _, _ = open_task(run.path)
    found = task.read()
    row = json.loads((tmp_path / "valid.jsonl").read_text().splitlines()[0])
    assert found.sources[30] == "both: " + " ".join(row["source"])
    assert (found.references[30], found.references[0]) == (row["target"], row["target"][0])
    last = [one[-1] if isinstance(one, list) else one for one in found.references]
    scores = task.score(found, last, samples=31).scores
    assert all(scores[f"both.{name}"].value == 100 for name in scored if name != "bleu")
    assert "nrefs:2" in scores["both.bleu"].signature
    assert task.score(found, last, samples=31).samples[30].target == row["target"][0]
    alone = task.read({"file": str(tmp_path / "valid.jsonl"), "prefix": "both: "})
    assert (alone.sources, alone.references) == (found.sources[30:], found.references[30:])
    assert [one.fields[1] for one in task.text("valid")][30] == row["target"][0]


def test_the_recipe_of_new_shows_a_mixture_that_works(call, tmp_path):
    write(tmp_path)
    files = [
        f"--{split}-{side}={split}.{end}"
        for split in ("train", "valid")
        for side, end in (("source", "text"), ("target", "first"))
    ]
    done = call("new", "text-to-text", *files, "--prefix", FIRST, "-o", "mine.toml")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "mine.toml").read_text().splitlines()
    start = lines.index("# [[mixture]]")
    kept = [line for line in lines[:start] if not line.startswith(("train =", "valid =", "prefix"))]
    shown = [line.removeprefix("# ") for line in lines[start:]]
    (tmp_path / "mine.toml").write_text("\n".join([*kept, *shown]) + "\n")
    for long, short, split in (("long", "short", "train"), ("long-valid", "short-valid", "valid")):
        shutil.copy(tmp_path / f"{split}.text", tmp_path / f"{long}.txt")
        shutil.copy(tmp_path / f"{split}.first", tmp_path / f"{short}.txt")
    done = call("check", "mine.toml", *(f"{key}={value}" for key, value in SMALL.items()))
    assert done.returncode == 0, done.stderr
    assert "task short, prefix 'summarize: ': 200 pairs" in " ".join(done.stdout.split())


class TestSpans:
    def test_scores_and_gaps(self, spans, call):
        done = call("evaluate", spans, "--data", f"file={spans.parent / 'valid.text'}", "--json")
        scores = json.loads(done.stdout)["scores"]
        assert set(scores) == {"loss", "perplexity", "exact_spans"}
        assert 0 <= scores["exact_spans"]["value"] <= 100
        assert 0 < scores["loss"]["value"] < 6.0
        done = call("generate", spans, "old dog <extra_id_0> near <extra_id_1> house")
        assert done.returncode == 0
        assert done.stdout.startswith("<extra_id_0>")
        p = regard.load(spans)
        plain = p.tokenizer.encode_batch(["old dog", "near"])
        ids = p._read(["old dog <extra_id_1>near"])[0]
        gap = p.tokenizer.id_of("<extra_id_1>")
        assert ids == [*plain[0], gap, *plain[1]]
        assert p._decoded([gap, *plain[0], gap]) == "<extra_id_1> old dog <extra_id_1>"

    def test_text_to_text_goes_on_from_there(self, spans, tmp_path):
        write(tmp_path)
        data = {**pairs(tmp_path, "first"), "prefix": "say: "}
        settings = recipe(data=data, model={"start_from": str(spans)})
        run = train(tmp_path, tmp_path / "run", settings, 10)
        stored = (spans / "tokenizer.json").read_text()
        assert (run.path / "tokenizer.json").read_text() == stored
        p = regard.load(run.path)
        assert p.prefix == "say: "
        read = p.look_inputs("old dog", "old")["inputs"]["source_ids"][0, :-1]
        assert read.tolist() == p._read(["say: old dog"])[0]
        assert p.translate("old dog") == p.translate("old dog", prefix="say: ")

    def test_the_objective_is_no_other_tasks(self, call, tmp_path):
        write(tmp_path)
        files = {"train": {"file": str(tmp_path / "train.text")}}
        settings = recipe("summarization", data=files, objective={"kind": "span_corruption"})
        toml({**settings, "training": {"max_steps": 1}}, tmp_path / "bad.toml")
        done = call("check", "bad.toml")
        assert (done.returncode, "no objective of summarization" in done.stderr) == (2, True)


class TestSummaries:
    def test_lists_of_sentences_and_of_summaries(self, call, tmp_path):
        pytest.importorskip("rouge_score", reason="rouge-score is not installed")
        write(tmp_path)
        files = ["--train", "train.jsonl", "--valid", "valid.jsonl", "--test", "valid.jsonl"]
        done = call("new", "summarization", *files, "-o", "mine.toml")
        assert (done.returncode, done.stderr) == (0, "")
        more = {**SMALL, "training.max_steps": 150, "evaluation.every_steps": 150}
        more |= {"training.checkpoint.every_steps": 150, "evaluation.metric": "rouge1"}
        words = [f"{key}={value}" for key, value in more.items()]
        done = call("train", "mine.toml", "--run", "run", *words)
        assert done.returncode == 0, done.stderr
        done = call("summarize", "run", "old dog sleeps near")
        assert done.stdout.strip() in WORDS
        done = call("evaluate", "run", "--json")
        scores = json.loads(done.stdout)["scores"]
        assert set(scores) == {"rouge1", "rouge2", "rougeL"}
        learned, right = 0, 0
        p = regard.load(tmp_path / "run")
        for line in (tmp_path / "valid.jsonl").read_text().splitlines():
            row = json.loads(line)
            made = p.summarize(" ".join(row["source"]))
            learned += made == row["target"][0]
            right += made in row["target"]
        assert scores["rouge1"]["value"] == pytest.approx(100 * right / 30, abs=0.01)
        assert learned <= right

    def test_a_field_of_another_name_says_which_option(self, call, tmp_path):
        write(tmp_path)
        row = '{"article": "a b", "source": "c"}\n'
        (tmp_path / "other.jsonl").write_text(row)
        done = call(
            *("new", "summarization", "--train", "other.jsonl", "--valid", "other.jsonl"),
            *("-o", "mine.toml"),
        )
        assert done.returncode == 2
        assert "there is no field 'target'" in done.stderr
        assert "in regard new --COLUMN FIELD" in done.stderr

    def test_another_run_does_not_summarize(self, call, trained):
        done = call("summarize", trained, "a text")
        assert done.returncode == 2
        assert "this run does not summarize" in done.stderr


def test_an_imported_t5_writes_text(tmp_path, call):
    """With the field's tokenizer of its own sentinels, through files."""
    library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    from regard.interop.hf import write_directory
    from regard.models import T5, T5Config
    from regard.registry import kind

    write(tmp_path)
    library.SentencePieceTrainer.train(
        input=str(tmp_path / "train.text"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    config = T5Config.preset("tiny", vocab_size=160, overrides={"d_model": 16, "num_layers": 1})
    model = T5(config)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    special = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    parameters = {name: one.detach() for name, one in model.named_parameters()}
    write_directory(kind("formats", "t5"), config, parameters, theirs, special)
    shutil.copy(tmp_path / "spiece.model", theirs)
    assert call("import", "hf", theirs, "-o", "run").returncode == 0
    done = call("generate", "run", "old dog <extra_id_0> near", "--max-new-tokens", 5)
    assert (done.returncode, done.stderr) == (0, "")
    found = regard.load(tmp_path / "run")
    assert found.tokenizer.id_of("<extra_id_0>") in found._read(["old <extra_id_0> dog"])[0]
    assert call("export", "hf", "run", "-o", "back").returncode == 0
    same = load_file(theirs / "model.safetensors")
    assert all(
        torch.equal(same[k], v) for k, v in load_file(tmp_path / "back/model.safetensors").items()
    )
