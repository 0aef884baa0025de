"""The task under a recipe: tokenizers, limits, counts, digests, references as a reader has them."""

import json

import pytest
import torch

from regard.errors import DataError, RecipeError, RegardError
from regard.recipe import Recipe
from regard.tasks.task import Evaluation, Examples
from regard.tasks.translation import Translation

PAIRS = {
    "train": [("ein haus", "a house"), ("ein hund", "a dog"), ("zwei hun@@ de", "two do@@ gs")] * 4,
    "valid": [("ein hund", "a dog"), ("zwei hun@@ de", "two do@@ gs")],
}


@pytest.fixture
def make(tmp_path):
    """A task for settings over a tiny recipe, its data written, not yet prepared."""

    def made(pairs=PAIRS, **settings):
        for split, rows in pairs.items():
            for place, side in enumerate(("source", "target")):
                text = "".join(row[place] + "\n" for row in rows)
                (tmp_path / f"{split}.{side}").write_text(text, encoding="utf-8")
        data = {
            split: {side: str(tmp_path / f"{split}.{side}") for side in ("source", "target")}
            for split in pairs
        }
        table = {
            "task": "translation",
            "data": data,
            "tokenizer": {"kind": "words"},
            "model": {"d_model": 8, "num_layers": 1, "layer": {"attention": {"num_heads": 2}}},
            "training": {"max_steps": 1, "batch_tokens": 100},
        }
        return Translation(Recipe.from_settings(table, settings))

    return made


def prepared(task, tmp_path):
    (tmp_path / "run").mkdir(exist_ok=True)
    return task.prepare(tmp_path / "run", lambda _: None)


def test_splits(make, tmp_path):
    task = make()
    splits = prepared(task, tmp_path)
    assert splits.notes == ("12 pairs to train on", "2 pairs to validate with")
    batch = splits.train.micro_batch(0, 0)
    assert batch["source_ids"].shape == (12, 4)
    assert batch["target_ids"].shape == (12, 5)
    assert splits.valid is not None
    assert task.model_settings() == {"vocab_size": len({*_words()}) + 4}


def _words():
    for rows in PAIRS.values():
        for pair in rows:
            yield from " ".join(pair).split()


def test_one_vocabulary_or_two(make, tmp_path):
    task = make(**{"tokenizer.joint": False, "model.tie": "target"})
    prepared(task, tmp_path)
    assert (tmp_path / "run" / "tokenizer.source.json").exists()
    assert "haus" in task.tokenizers["source"].vocabulary
    assert "haus" not in task.tokenizers["target"].vocabulary
    sizes = task.model_settings()
    assert sizes["target_vocab_size"] == task.tokenizers["target"].vocab_size
    again = Translation(task.recipe)
    again.open(tmp_path / "run")
    for side in ("source", "target"):
        assert again.tokenizers[side].fingerprint == task.tokenizers[side].fingerprint


def test_what_is_left_out_is_counted(make, tmp_path):
    rows = [*PAIRS["train"], ("", "a"), ("a", " "), ("a " * 30, "a")]
    task = make({**PAIRS, "train": rows}, **{"data.max_length": 20})
    splits = prepared(task, tmp_path)
    assert splits.notes[:3] == ("12 pairs to train on", "left out: 2 empty", "left out: 1 too long")


def test_the_models_own_limit_counts_too(make, tmp_path):
    rows = [*PAIRS["train"], ("a " * 30, "a")]
    task = make({**PAIRS, "train": rows}, **{"model.max_positions": 8})
    assert "left out: 1 too long" in prepared(task, tmp_path).notes
    other = make({**PAIRS, "valid": rows}, **{"model.max_positions": 8})
    with pytest.raises(
        DataError, match=r"valid\.source:13: the example has 30 tokens, more than 7"
    ):
        prepared(other, tmp_path)


def test_digests_follow_the_content_alone(make, tmp_path):
    first = prepared(make(), tmp_path).digests
    assert set(first) == {"train", "valid"}
    assert prepared(make(), tmp_path).digests == first
    rows = [*PAIRS["train"][:-1], ("ein haus", "a dog")]
    changed = prepared(make({**PAIRS, "train": rows}), tmp_path).digests
    assert changed["train"] != first["train"]
    assert changed["valid"] == first["valid"]


def test_a_shared_cache_knows_the_tokenizer(make, tmp_path, monkeypatch):
    shared = {
        "data.cache": str(tmp_path / "cache"),
        "tokenizer.joint": False,
        "model.tie": "target",
    }
    task = make(**shared)
    prepared(task, tmp_path)
    for path in (tmp_path / "run").glob("tokenizer*.json"):
        path.unlink()  # as in another run
    monkeypatch.setattr("regard.data.learned.train_tokenizer", None)
    again = make(**shared)
    prepared(again, tmp_path)
    for side, tokenizer in task.tokenizers.items():
        assert again.tokenizers[side].to_json() == tokenizer.to_json()
    assert task.tokenizers["source"].vocabulary != task.tokenizers["target"].vocabulary


def test_no_validation_data(make, tmp_path):
    splits = prepared(make({"train": PAIRS["train"]}), tmp_path)
    assert splits.valid is None
    assert list(splits.digests) == ["train"]


def test_references_are_read_as_words(make, tmp_path):
    task = make(**{"tokenizer.continuation": "@@"})
    prepared(task, tmp_path)
    examples = task.read()
    assert examples.sources == ["ein hund", "zwei hun@@ de"]
    assert examples.references == ["a dog", "two dogs"]
    assert examples.origins[1] == f"{tmp_path / 'valid.source'}:2"
    assert len(examples.first(1)) == 1
    assert task.bleu_tokens == "none"
    assert "24 of 24 texts come back" in task.check_inputs(100)


def test_scores(make, tmp_path):
    task = make()
    examples = Examples(["x"] * 2, ["a b c d e", "f g h i"], ["f:1", "f:2"])
    found = task.score(examples, ["a b c d e", "f g h x"], samples=1)
    assert found.scores["exact_match"].value == 50
    assert 0 < found.scores["bleu"].value < 100
    assert found.scores["bleu"].interval is None
    assert [vars(sample) for sample in found.samples] == [
        {"source": "x", "target": "a b c d e", "output": "a b c d e"}
    ]
    (bleu, chrf) = task.compare(
        examples,
        Evaluation({}, outputs=["a b c d e", "f g h i"]),
        Evaluation({}, outputs=["x", "y"]),
    )
    assert bleu.difference > 0
    assert chrf.system.value == pytest.approx(100)


def test_lower_case_is_scored_without_case(make, tmp_path):
    task = make(**{"tokenizer.lowercase": True})
    examples = Examples(["x"], ["Ein Haus am See"], ["f:1"])
    assert task.score(examples, ["ein haus am see"]).scores["bleu"].value == pytest.approx(100)


def test_a_batch_of_sentences(make, tmp_path):
    task = make(**{"training.batch_size": 5})
    sizes = [len(prepared(task, tmp_path).train.micro_batch(0, k)["example"]) for k in range(3)]
    assert sorted(sizes) == [2, 5, 5]


def test_the_objective_is_the_recipes(make):
    assert make(**{"objective.label_smoothing": 0.25}).objective().label_smoothing == 0.25


def test_other_words_for_data(make, tmp_path):
    task = make()
    (tmp_path / "x.jsonl").write_text(json.dumps({"de": "a", "en": "b"}) + "\n")
    fields = {"source": "de", "target": "en"}
    found = task.read({"file": tmp_path / "x.jsonl", "fields": fields})
    assert (found.sources, found.references) == (["a"], ["b"])
    with pytest.raises(RecipeError, match="did you mean 'source'"):
        task.read({"sorce": "x"})
    with pytest.raises(RegardError, match="no such data"):
        task.read(split="test")


def test_samples_are_cheap_and_best(make, tmp_path):
    """Shown greedily, one output each, whatever the recipe's decoding says."""
    from regard import registry

    task = make(**{"decoding.nbest": 2})
    prepared(task, tmp_path)
    torch.manual_seed(0)
    config = task.recipe.model_config_for(task.model_settings())
    model = registry.family("transformer").model(config).eval()
    assert task.show(model, 0) == []
    shown = task.show(model, 5)
    assert [sample.source for sample in shown] == ["ein hund", "zwei hun@@ de"]
    assert all(isinstance(sample.output, str) for sample in shown)
    report = task.evaluate(model, task.read(), samples=1)
    assert set(report.scores) == {"bleu", "chrf", "exact_match"}
    assert len(report.samples) == 1
