"""Classifying: one in, one out; alone as in any batch; what is refused."""

import math

import pytest
import torch

from regard.errors import DataError, InputError, RecipeError
from regard.tasks.classifier import Label, LabelSet, Value

from .encoders import TEXTS, opened

PAIR = {"train": {"file": "a.tsv", "fields": {"text": "a", "pair": "b", "label": "c"}}}
MANY = [*TEXTS, "", "house", "the river " * 30, "a green river"]
PAIRS = [("the house", "a river"), ("", "house"), ("river " * 30, "a house"), ("a", "b " * 30)]


@pytest.fixture
def classifier(tmp_path):
    task, model = opened(tmp_path, "classification", ["bad", "good", "so"])
    return task.predictor(model)


@pytest.fixture
def pairs(tmp_path):
    task, model = opened(tmp_path, "classification", ["no", "yes"], data=PAIR)
    return task.predictor(model)


def test_one_in_one_out(classifier):
    found = classifier.classify("the small house")
    assert isinstance(found, Label)
    assert set(found.probabilities) == {"bad", "good", "so"}
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.probability == max(found.probabilities.values())
    assert found.probabilities[found.label] == found.probability
    assert str(found) == found.label
    assert classifier.classify(["the small house"]) == [found]
    assert classifier.classify([]) == []
    assert repr(classifier).startswith("<Classifier: BERT, ")


def test_it_is_the_models_answer(classifier):
    ids = [1, *classifier.tokenizer.encode("the old river"), 2]
    classifier.model.eval()
    logits = classifier.model(torch.tensor([ids]))[0]
    found = classifier.classify("the old river").probabilities
    wanted = logits.float().softmax(dim=0).tolist()
    assert list(found.values()) == pytest.approx(wanted, abs=1e-6)


def test_alone_as_in_any_batch(classifier, pairs):
    for one, texts in ((classifier, MANY), (pairs, PAIRS)):
        together = one.classify(texts * 3)
        assert len(together) == 3 * len(texts)
        for text, found in zip(texts * 3, together, strict=True):
            alone = one.classify(text).probabilities
            assert list(found.probabilities.values()) == pytest.approx(list(alone.values()))


def test_a_model_in_training_is_left_so(classifier):
    classifier.model.train()
    first = classifier.classify(TEXTS)
    assert classifier.model.training
    assert classifier.classify(TEXTS) == first


def test_a_pair_is_read_with_its_segments(pairs):
    model, tokenizer = pairs.model.eval(), pairs.tokenizer
    one, other = tokenizer.encode_batch(["the house", "a river"])
    ids = torch.tensor([[1, *one, 2, *other, 2]])
    segments = torch.tensor([[0] * (len(one) + 2) + [1] * (len(other) + 1)])
    wanted = model(ids, segments=segments)[0].float().softmax(dim=0).tolist()
    found = pairs.classify(("the house", "a river")).probabilities
    assert list(found.values()) == pytest.approx(wanted, abs=1e-6)
    assert pairs.classify(("a river", "the house")).probabilities != found


def test_what_is_too_long_is_cut(classifier):
    assert classifier.classify("river " * 14) == classifier.classify("river " * 15)
    assert classifier.classify("river " * 13) != classifier.classify("river " * 14)


@pytest.mark.parametrize(
    "texts", [("a", "b"), [("a", "b")], ["a", ("a", "b")], 3, [3], ("a", "b", "c")]
)
def test_texts_are_wanted(classifier, texts):
    with pytest.raises(InputError, match="a text is wanted"):
        classifier.classify(texts)


@pytest.mark.parametrize("texts", ["a", ["a"], [("a", "b"), "c"], ("a",), ("a", "b", "c")])
def test_pairs_are_wanted(pairs, texts):
    with pytest.raises(InputError, match="pairs of texts are wanted"):
        pairs.classify(texts)


def test_several_classes(tmp_path):
    task, model = opened(tmp_path, "classification", ["a", "b"], objective="multi_label")
    found = task.predictor(model).classify(TEXTS)
    logits = task.logits(model, [(text,) for text in TEXTS]).tolist()
    for one, row in zip(found, logits, strict=True):
        assert isinstance(one, LabelSet)
        wanted = [1 / (1 + math.exp(-value)) for value in row]
        assert list(one.probabilities.values()) == pytest.approx(wanted)
        assert one.labels == tuple(n for n, v in one.probabilities.items() if v > 0.5)
        assert str(one) == " ".join(one.labels)


def test_a_number(tmp_path):
    task, model = opened(tmp_path, "classification", objective="regression")
    found = task.predictor(model).classify(TEXTS)
    logits = task.logits(model, [(text,) for text in TEXTS])
    assert found == [Value(float(row[0])) for row in logits]
    # Scores see it as it is, not as it is shown.
    values = [one.value for one in found]
    assert [float(one.answer) for one in found] == pytest.approx(values, rel=1e-8)


def test_pictures(classifier, tmp_path):
    found = classifier.look_inputs("the old river")
    assert found["tokens"]["encoder"][0] == "<s>"
    assert found["target"] == classifier.classify("the old river").label
    assert found["labels"].tolist() == [classifier.labels.index(found["target"])]
    assert classifier.look_inputs("house", "so")["labels"].tolist() == [2]
    with pytest.raises(InputError, match="there is no class 'nice'"):
        classifier.look_inputs("house", "nice")
    task, model = opened(tmp_path, "classification", objective="regression")
    with pytest.raises(InputError, match="one class"):
        task.predictor(model).look_inputs("house")


class TestReading:
    def read(self, tmp_path, text, **more):
        task, _ = opened(tmp_path, "classification", ["bad", "good"], **more)
        (tmp_path / "a.tsv").write_text(text)
        return task.read({"file": str(tmp_path / "a.tsv")})

    def test_rows_without_anything_are_none(self, tmp_path):
        found = self.read(tmp_path, "text\tlabel\na house\tgood \n\n\tbad\n")
        assert found.sources == ["a house", ""]
        assert found.references == ["good", "bad"]
        assert [one.rpartition(":")[2] for one in found.origins] == ["2", "4"]

    @pytest.mark.parametrize("label", ["nice", ""])
    def test_a_label_that_is_none(self, tmp_path, label):
        with pytest.raises(DataError, match=f"'{label}' is not among the labels") as caught:
            self.read(tmp_path, f"text\tlabel\na\tgood\nb\t{label}\n")
        assert caught.value.where.endswith("a.tsv:3")

    def test_sets_are_tuples(self, tmp_path):
        found = self.read(tmp_path, "text\tlabel\na\tgood  bad\nb\t\n", objective="multi_label")
        assert found.references == [("good", "bad"), ("",)]

    def test_scores_are_of_what_was_answered(self, tmp_path):
        task, _ = opened(tmp_path, "classification", ["bad", "good"], objective="multi_label")
        (tmp_path / "a.jsonl").write_text(
            '{"text": "a", "label": ["good", "bad"]}\n{"text": "b", "label": []}\n'
        )
        examples = task.read({"file": str(tmp_path / "a.jsonl")})
        found = task.score(examples, [("bad", "good"), ("good",)], 0)
        assert found["exact_match"].value == 50
        assert found["f1"].value == pytest.approx(80)

    def test_a_file_is_wanted(self, tmp_path):
        task, _ = opened(tmp_path, "classification", ["bad", "good"])
        with pytest.raises(RecipeError, match="a table with the columns text and label"):
            task.source({"source": "a", "target": "b"})


def test_a_header_says_whether_there_are_pairs(tmp_path):
    (tmp_path / "train.tsv").write_text("text\tpair\tlabel\na river\tthe house\tyes\n\t\t\n")
    (tmp_path / "test.tsv").write_text("text\tpair\tlabel\na\tb\tno\n\t\t\n")
    data = {"train": {"file": str(tmp_path / "train.tsv")}}
    task, model = opened(tmp_path, "classification", ["no", "yes"], data=data)
    fields = {"text": "text", "pair": "pair", "label": "label"}
    assert task.said() == {"data.train.fields": fields}
    examples = task.read({"file": str(tmp_path / "test.tsv")})
    assert list(examples.sources) == [("a", "b")]  # an empty row is none
    assert task.predictor(model).classify(("a", "b")).label in ("no", "yes")


def test_room_for_text(tmp_path):
    task, model = opened(tmp_path, "classification", ["no", "yes"], max_positions=2)
    with pytest.raises(RecipeError, match="special tokens alone"):
        task.predictor(model).classify("a river")
