"""Scores of classes, sets and numbers: the field's own; and what resampling makes of them."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from regard.errors import DataError
from regard.metrics.classification import (
    class_scorers,
    compare_all,
    number_scorers,
    ranked_scorers,
    score_all,
    set_scorers,
)
from regard.metrics.resampling import draws, interval, p_value


def answers(classes, count=300, right=0.7, seed=0):
    random = np.random.default_rng(seed)
    wanted = random.integers(0, classes, count)
    guessed = random.integers(0, classes, count)
    return wanted, np.where(random.random(count) < right, wanted, guessed)


@pytest.mark.parametrize("classes", [2, 5])
def test_classes_are_scikit_learns(classes):
    right, answered = answers(classes)
    found = score_all(class_scorers([f"c{n}" for n in range(classes)]), right, answered)
    average = {"average": "binary"} if classes == 2 else {"average": "macro"}
    wanted = {
        "accuracy": metrics.accuracy_score(right, answered),
        "f1": metrics.f1_score(right, answered, **average),
        "matthews": metrics.matthews_corrcoef(right, answered),
    }
    assert {key: score.value for key, score in found.items()} == {
        key: pytest.approx(100 * value) for key, value in wanted.items()
    }
    of = "of 'c1'" if classes == 2 else "mean of the classes"
    assert found["f1"].signature.startswith(f"F1 {of}|scikit-learn ")


def test_sets_are_scikit_learns():
    random = np.random.default_rng(0)
    right, answered = random.integers(0, 2, (80, 4)), random.integers(0, 2, (80, 4))
    found = score_all(set_scorers(4), right, answered)
    f1 = metrics.f1_score(right, answered, average="micro")
    assert found["f1"].value == pytest.approx(100 * f1)
    exact = metrics.accuracy_score(right, answered)
    assert found["exact_match"].value == pytest.approx(100 * exact)


def test_numbers_are_scipys():
    random = np.random.default_rng(0)
    right = random.random(50)
    answered = right + 0.3 * random.random(50)
    found = score_all(number_scorers(), right, answered)
    assert found["pearson"].value == pytest.approx(100 * stats.pearsonr(right, answered).statistic)
    assert found["spearman"].value == pytest.approx(
        100 * stats.spearmanr(right, answered).statistic
    )


@pytest.mark.parametrize(
    ("scorers", "made"),
    [
        (class_scorers(["a", "b"]), [answers(2, 40, seed=n) for n in range(5)]),
        (class_scorers("abcdef"), [answers(6, 20, seed=n) for n in range(5)]),
        (class_scorers("abc"), [(np.zeros(9, int), np.zeros(9, int))]),
        (class_scorers("ab"), [(np.zeros(9, int), np.zeros(9, int))]),
        (class_scorers("ab"), [(np.array([0, 1, 0]), np.zeros(3, int))]),
        (
            set_scorers(3),
            [tuple(np.random.default_rng(n).integers(0, 2, (2, 20, 3))) for n in range(5)],
        ),
        (set_scorers(3), [(np.zeros((4, 3), int), np.zeros((4, 3), int))]),
    ],
)
def test_the_quick_form_is_the_same_number(scorers, made):
    for right, answered in made:
        for one in scorers.values():
            assert one.quick(right, answered) == pytest.approx(one.measure(right, answered)), one


def test_what_does_not_vary_has_no_correlation():
    found = score_all(number_scorers(), [1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert [score.value for score in found.values()] == [0.0, 0.0]


def test_nothing_to_score():
    with pytest.raises(DataError, match="there is nothing to score"):
        score_all(number_scorers(), [], [])
    with pytest.raises(DataError, match="1 hypotheses for 2 references"):
        score_all(number_scorers(), [1.0, 2.0], [1.0])


class TestResampling:
    def test_the_same_examples_are_drawn_every_time(self):
        first = draws(20, 30)
        assert first.shape == (30, 20)
        assert np.array_equal(first, draws(20, 30))
        assert set(first.flatten()) == set(range(20))

    def test_an_interval_holds_the_score(self):
        right, answered = answers(2)
        hits = (right == answered).astype(float)
        low, high = interval(lambda rows: 100 * hits[rows].mean(), len(hits), 1000)
        share = hits.mean()
        width = 196 * (share * (1 - share) / len(hits)) ** 0.5
        assert low == pytest.approx(100 * share - width, abs=0.5)
        assert high == pytest.approx(100 * share + width, abs=0.5)
        assert interval(lambda rows: 0.0, 10, 0) is None
        found = score_all(class_scorers("ab"), right, answered, samples=1000)["accuracy"]
        assert found.interval == (low, high)

    def test_chance_and_more_than_chance(self):
        right, good = answers(2, right=0.9)
        _, poor = answers(2, right=0.3)
        better = compare_all(class_scorers("ab"), right, good, poor)
        assert [one.name for one in better] == ["accuracy", "F1", "Matthews"]
        for one in better:
            assert one.significant()
            assert one.difference > 0
            assert one.signature.endswith("paired bootstrap of 1000")
        scores = score_all(class_scorers("ab"), right, good)
        assert [one.system.value for one in better] == [one.value for one in scores.values()]
        same = compare_all(class_scorers("ab"), right, good, good.copy())
        assert {one.p_value for one in same} == {1.0}

    def test_equal_systems_differ_by_chance(self):
        """Of many pairs that are equally good, about one in twenty looks significant."""
        random, found = np.random.default_rng(4), []
        for _ in range(60):
            hits = random.random((2, 100)) < 0.7
            measures = tuple((lambda rows, one=one: float(one[rows].mean())) for one in hits)
            found.append(p_value(measures, 100, 200))
        assert 0 <= sum(p < 0.05 for p in found) <= 9
        assert 0.3 < float(np.mean(found)) < 0.7


def test_the_likeliest_classes() -> None:
    right = np.array([3, 1, 4, 1])
    answered = np.array([[3, 0, 1, 2, 5], [0, 1, 2, 3, 4], [0, 1, 2, 3, 5], [5, 4, 3, 2, 1]])
    found = score_all(ranked_scorers(), right, answered, 200)
    assert found["top1"].value == 25.0
    assert found["top5"].value == 75.0
    low, high = found["top5"].interval
    assert low <= 75.0 <= high
    (first, _) = compare_all(ranked_scorers(), right, answered, answered[:, ::-1])
    assert (first.baseline.value, first.system.value) == (25.0, 25.0)
