"""ROUGE by hand, the best of several summaries, and a paired test."""

import pytest

from regard.errors import DataError
from regard.metrics.rouge import compare_rouge, rouge

pytest.importorskip("rouge_score", reason="rouge-score is not installed")


def test_by_hand():
    """Shared words 2 of 3 and 4: F1 = 2·2/(3 + 4); one pair of 2 and 3: 2/5; in a row: as words."""
    found = rouge(["the cat sat"], [["a cat sat down"]], samples=50)
    values = {key: score.value for key, score in found.items()}
    assert values == pytest.approx({"rouge1": 400 / 7, "rouge2": 40.0, "rougeL": 400 / 7})
    assert found["rouge1"].interval == pytest.approx((400 / 7, 400 / 7))
    assert "rouge-score" in found["rouge1"].signature
    assert rouge(["running"], [["runs"]])["rouge1"].value == 100.0  # stemmed


def test_the_best_of_several_counts_for_each_kind_by_itself():
    right = ["b a x", "a c b"]
    found = rouge(["a b"], [right])
    alone = [rouge(["a b"], [[one]]) for one in right]
    for key, score in found.items():
        assert score.value == max(one[key].value for one in alone)


def test_systems_are_compared():
    right = [[f"word{n} and more"] for n in range(40)]
    good = [one[0] for one in right]
    first, *_ = compare_rouge(right, good, ["nothing"] * 40)
    assert (first.system.value, first.baseline.value) == (100.0, 0.0)
    assert first.significant()
    assert not compare_rouge(right, good, good)[0].significant()
    with pytest.raises(DataError, match="1 hypotheses for 2 references"):
        rouge(["a"], [["a"], ["b"]])
