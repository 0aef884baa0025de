"""SQuAD's scores, by hand and beside its script's formulas."""

import pytest

from regard.errors import DataError
from regard.metrics.squad import compare_answers, exact, normalized, overlap, score_answers


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The  Old Dog.", "old dog"),
        ("a an the", ""),
        ("another theory", "another theory"),
        ("U.S.A.", "usa"),
        ("7-year-old", "7yearold"),
        ("the-old", "theold"),
        ("An apple, a day\n", "apple day"),
        ("“quoted”", "“quoted”"),  # its script knows ASCII's marks alone
        ("Ünter DEN Linden", "ünter den linden"),
    ],
)
def test_normalized(text, wanted):
    assert normalized(text) == wanted


@pytest.mark.parametrize(
    ("answer", "right", "em", "f1"),
    [
        ("the old dog", "Old dog!", 1, 1),
        ("old dog", "dog", 0, 2 / 3),
        ("dog", "cat", 0, 0),
        ("dog dog cat", "dog dog cow", 0, 2 / 3),  # a word counts as often as both have it
        ("", "", 1, 1),
        ("", "dog", 0, 0),
        ("dog", "", 0, 0),
        ("the", "", 1, 1),
        ("one two three four", "one", 0, 2 / 5),
    ],
)
def test_exact_and_overlap(answer, right, em, f1):
    assert exact(answer, right) == em
    assert overlap(answer, right) == pytest.approx(f1)
    assert overlap(right, answer) == pytest.approx(f1)


def test_the_best_of_the_answers_counts():
    right = [["dog", "the old dog"], ["cat"], [], []]
    scores = score_answers(right, ["old dog", "black cat", "", "cat"])
    assert scores["exact_match"].value == pytest.approx(100 * 2 / 4)
    assert scores["f1"].value == pytest.approx(100 * (1 + 2 / 3 + 1 + 0) / 4)
    assert "SQuAD" in scores["f1"].signature
    assert scores["f1"].interval is None


def test_intervals_hold_the_score():
    right = [["dog"]] * 30 + [["cat"]] * 10
    score = score_answers(right, ["dog"] * 40, samples=200)["exact_match"]
    low, high = score.interval
    assert low < score.value == 75 < high
    assert score_answers(right, ["dog"] * 40, samples=200)["exact_match"].interval == (low, high)


def test_unequal_counts():
    with pytest.raises(DataError):
        score_answers([["dog"]], [])
    with pytest.raises(DataError):
        score_answers([], [])


def test_compare():
    right = [["dog"], ["cat"], [], ["old cow"]] * 20
    ours, theirs = ["dog", "cat", "", "cow"] * 20, ["dog", "dog", "", ""] * 20
    match, f1 = compare_answers(right, ours, theirs)
    assert (match.system.value, match.baseline.value) == (75, 50)
    assert f1.system.value == pytest.approx(100 * (3 + 2 / 3) / 4)
    assert match.difference == 25
    assert match.p_value < 0.01
    assert compare_answers(right, ours, ours)[0].p_value > 0.5
