"""Spans of tags and their scores: seqeval's own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics
from seqeval.metrics.sequence_labeling import get_entities

from regard.errors import DataError
from regard.metrics.spans import compare_tags, score_tags, spans_of, spells

TAGS = ["O", *(f"{form}-{name}" for form in "BIES" for name in ("per", "creative-work"))]
rows = st.lists(st.sampled_from(TAGS), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-a I-a O", [("a", 1, 3)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("I-a I-a I-b", [("a", 0, 2), ("b", 2, 3)]),
        ("B-a O I-a", [("a", 0, 1), ("a", 2, 3)]),
        ("S-a B-b E-b I-b", [("a", 0, 1), ("b", 1, 3), ("b", 3, 4)]),
        ("NOUN B I O S B-", []),
        ("", []),
    ],
)
def test_spans(tags, spans):
    assert spans_of(tags.split()) == spans


@given(rows)
def test_spans_are_seqevals(tags):
    theirs = [(name, start, end + 1) for name, start, end in get_entities(tags)]
    assert spans_of(tags) == theirs


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(rows, st.randoms(use_true_random=False)), min_size=1, max_size=6))
def test_scores_are_seqevals(made):
    right = [tags for tags, _ in made]
    answered = [[random.choice([tag, *TAGS]) for tag in tags] for tags, random in made]
    found = score_tags(right, answered)
    accuracy = metrics.accuracy_score(right, answered)
    assert found["accuracy"].value == pytest.approx(100 * accuracy)
    if any(map(spans_of, [*right, *answered])):
        given = right, answered
        f1 = found["f1"]
        assert f1.value == pytest.approx(100 * metrics.f1_score(*given, zero_division=0))
        for name in ("precision", "recall"):
            score = getattr(metrics, f"{name}_score")(*given, zero_division=0)
            assert f1.details[name] == pytest.approx(100 * score)
    else:
        assert found.keys() == {"accuracy"}


def test_tags_that_spell_none():
    """seqeval would read spans into them, and warn."""
    right, answered = [["NOUN", "B", "VERB"]], [["NOUN", "B", "NOUN"]]
    found = score_tags(right, answered, 50)
    assert found.keys() == {"accuracy"}
    assert found["accuracy"].value == pytest.approx(200 / 3)
    assert [one.name for one in compare_tags(right, answered, right)] == ["accuracy"]
    mixed = score_tags([["B-a", "VERB"]], [["B-a", "NOUN"]])
    assert mixed["f1"].value == 100
    assert [spells(tag) for tag in ("B-a", "O", "B", "X-a", "I-b-c")] == [1, 0, 0, 0, 1]


def test_intervals_and_comparisons():
    right = [["B-a", "I-a", "O"], ["O", "B-b", "O"]] * 40
    good = [["B-a", "I-a", "O"], ["O", "O", "O"]] * 40
    poor = [["O", "B-a", "O"], ["O", "O", "O"]] * 40
    found = score_tags(right, good, 500)
    for score in found.values():
        assert score.interval is not None
        assert score.interval[0] <= score.value <= score.interval[1]
        assert score.interval[1] - score.interval[0] < 25
    assert found["f1"].value == pytest.approx(200 / 3)
    better = compare_tags(right, good, poor)
    assert [one.name for one in better] == ["span F1", "accuracy"]
    assert all(one.significant() and one.difference > 0 for one in better)
    assert better[0].system.value == pytest.approx(found["f1"].value)


def test_nothing_to_score():
    with pytest.raises(DataError, match="there is nothing to score"):
        score_tags([], [])
