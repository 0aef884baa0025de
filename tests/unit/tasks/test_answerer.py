"""Answers: the best span against a double loop, over windows, whatever the batch, or none."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard import registry
from regard.data.readers.squad import QuestionTable
from regard.data.tokenizers.base import train_tokenizer
from regard.errors import InputError
from regard.recipe import Recipe
from regard.tasks import answerer
from regard.tasks.answerer import LONGEST_ANSWER, best_span

TEXT = "The old dog sleeps in the garden; the young cat plays with a red ball. "


@pytest.fixture
def opened(tmp_path):
    """A door with weights that nobody trained."""

    def make(kind="wordpiece", *, may_refuse=False, longest=40, stride=8):
        sized = {} if kind in ("chars", "bytes", "words") else {"vocab_size": 330}
        given = {
            "task": "question-answering",
            "data": {"max_length": longest, "stride": stride},
            "tokenizer": {"kind": kind},
            "objective": {"kind": "span"},
            "training": {"max_steps": 1},
            "model": {
                "preset": "tiny",
                "d_model": 16,
                "layer": {"attention": {"num_heads": 2}, "feed_forward": {"d_ff": 24}},
            },
        }
        recipe = Recipe.from_settings(given)
        train_tokenizer(kind, [TEXT], **sized).save(tmp_path / "tokenizer.json")
        (tmp_path / "answering.json").write_text(json.dumps({"no_answer": may_refuse}))
        task = registry.task("question-answering")(recipe)
        task.open(tmp_path)
        torch.manual_seed(0)
        config = recipe.model_config_for(task.model_settings())
        model = registry.family("bert").model(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return task.predictor(model.eval())

    return make


@given(st.integers(1, 70), st.integers(0, 10_000))
@settings(max_examples=60)
def test_the_best_span_is_a_double_loops(size, seed):
    scores = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
    best = max(
        (float(scores[0, start] + scores[1, end]), start, end)
        for start in range(size)
        for end in range(start, min(size, start + LONGEST_ANSWER))
    )
    assert best_span(scores) == pytest.approx(best)


def test_an_answer_has_a_longest():
    scores = torch.full((2, 60), -5.0)
    scores[0, 3] = scores[1, 3 + LONGEST_ANSWER] = 5.0
    assert best_span(scores)[0] == 0.0
    scores[1, 2 + LONGEST_ANSWER] = 4.0
    assert best_span(scores) == (9.0, 3, 2 + LONGEST_ANSWER)


def slowly(door, question, context):
    """The best answer by plain loops over windows that are read one by one."""
    task, tokenizer = door._task, door.tokenizer
    asked = tokenizer.encode(question)[: task.longest // 4]
    pieces, spans = tokenizer.encode(context), tokenizer.offsets(context)
    room = task.longest - 3 - len(asked)
    apart = min(task.recipe.data.stride, room // 2)
    best, none, begin = (float("-inf"), 0, 0), float("inf"), 0
    while True:
        part = pieces[begin : begin + room]
        ids = torch.tensor([[1, *asked, 2, *part, 2]])
        segments = torch.tensor([[0] * (len(asked) + 2) + [1] * (len(part) + 1)])
        with torch.no_grad():
            logits = door.model(ids, mask=torch.ones_like(ids).bool(), segments=segments)[0]
        starts, ends = logits.float().log_softmax(dim=0).T
        none = min(none, float(starts[0] + ends[0]))
        first = len(asked) + 2
        for one in range(len(part)):
            for two in range(one, min(len(part), one + LONGEST_ANSWER)):
                left, right = spans[begin + one][0], spans[begin + two][1]
                if context[left:right].strip() == context[left:right] != "":
                    score = float(starts[first + one] + ends[first + two])
                    best = max(best, (score, -left, -right))
        if begin + room >= len(pieces):
            return best[0] - none, -best[1], -best[2]
        begin += apart


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "chars", "words"])
def test_windows_are_read_as_by_hand(opened, kind):
    door = opened(kind)
    pairs = [
        ("Who sleeps?", TEXT),
        ("Who plays?", TEXT * 5),
        ("Who plays with the ball in the old garden and who does not, says the cat?", TEXT * 2),
        ("Why?", "cat"),
    ]
    found = door.answer(pairs)
    for (question, context), one in zip(pairs, found, strict=True):
        score, start, end = slowly(door, question, context)
        assert one.score == pytest.approx(score, abs=1e-4)
        assert (one.start, one.end) == (start, end)
        assert one.text == context[start:end] != ""
        alone = door.answer(question, context)
        assert (alone.text, alone.start) == (one.text, one.start)
        assert alone.score == pytest.approx(one.score, abs=1e-4)


def test_only_who_learned_it_says_that_there_is_none(opened, monkeypatch):
    pairs = [("Who?", TEXT[start:]) for start in range(0, 60, 4)]

    def answered(may_refuse):
        door = opened(may_refuse=may_refuse, longest=100)
        plain = door.model.forward

        def forward(ids, **more):
            logits = plain(ids, **more)
            logits[:, 0] += 20.0 * (ids.sum(dim=1, keepdim=True) % 2)
            return logits

        monkeypatch.setattr(door.model, "forward", forward)
        return door.answer(pairs)

    bold, shy = answered(False), answered(True)
    assert all(one.text for one in bold)
    assert {one.score < 0 for one in bold} == {True, False}
    for one, other in zip(bold, shy, strict=True):
        assert other.score == one.score
        assert other.text == ("" if one.score < 0 else one.text)
        assert one.score >= 0 or (other.start, other.end) == (0, 0)


def test_white_space_neither_begins_nor_ends_an_answer(opened, monkeypatch):
    """Also where it is a piece and the best place."""
    door = opened("chars", longest=100)
    space = door.tokenizer.encode(" ")[0]

    def logits(ids, mask, segments):
        return torch.stack([(ids == space) * 5.0, (ids == space) * 5.0], dim=-1)

    monkeypatch.setattr(door.model, "forward", logits)
    for one in door.answer([("Who?", "a cat sat"), ("Who?", " \n cat \n ")]):
        assert one.text
        assert one.text == one.text.strip()


@pytest.mark.parametrize(
    ("asked", "context", "words"),
    [
        ("Who?", None, "a question and the text"),
        (("Who?",), None, "a question and the text"),
        (("Who?", "text"), "another", "a question and the text"),
        ([("Who?", 3)], None, "a question and the text"),
        (" ", "text", "the question is empty"),
        (["Who?", "Why?"], "\n", "the text is empty"),
    ],
)
def test_bad_questions(opened, asked, context, words):
    with pytest.raises(InputError, match=words):
        opened().answer(asked, context)


def test_look_watches_its_own_answer_where_it_stands(opened, monkeypatch):
    """Not where the same words stand first."""
    door = opened(longest=64)
    context = "the cat and the cat"
    monkeypatch.setattr(door, "answer", lambda pair: answerer.Answer("the cat", 12, 19, 1.0))
    inputs = door.look_inputs(("Who?", context))
    first, last = inputs["labels"][0].tolist()
    tokens = inputs["tokens"]["encoder"]
    begin = tokens.index("</s>") + 1
    assert first - begin >= 3
    assert "".join(tokens[first : last + 1]).replace("##", "") in ("thecat", "the▁cat")
    inputs = door.look_inputs(("Who?", context), "the cat")
    assert inputs["labels"][0, 0] == begin


def test_a_text_without_a_piece(opened):
    """Such as a control character, where the tokenizer drops it."""
    door = opened("words")
    found = door.answer("what sleeps?", context="\u00ad \x01")
    assert math.isfinite(found.score)


def test_an_empty_row_is_no_question(tmp_path):
    path = tmp_path / "qa.tsv"
    path.write_text("question\tcontext\tanswer\nwho?\tthe dog\tdog\n\t\t\n")
    assert len(list(QuestionTable({"file": str(path)}))) == 1
