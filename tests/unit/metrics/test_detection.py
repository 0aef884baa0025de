"""COCO's average precision: by hand, crowds, resampling, comparing."""

import random

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from regard.errors import DataError
from regard.metrics.detection import BoxScores, compare_boxes


def box(left, top=0, size=10):
    return (left, top, left + size, top + size)


def test_all_found_is_100_and_nothing_is_0():
    right = [[(box(0), 0, 0), (box(50), 1, 0)], [(box(20), 0, 0)]]
    found = [[(edges, kind, 0.9) for edges, kind, _ in row] for row in right]
    for kind in ("ap", "ap50"):
        assert BoxScores(right, found).score(kind).value == pytest.approx(100.0)
        assert BoxScores(right, [[], []]).score(kind).value == 0.0
    swapped = [[(edges, 1 - kind, p) for edges, kind, p in row] for row in found]
    assert BoxScores(right, swapped).score("ap50").value == 0.0


def test_by_hand():
    """Of two boxes the likeliest answer is wrong, the second right: precision 1/2 up to recall 1/2.

    It overlaps by 2/3, which counts at 0.50, 0.55, 0.60 and 0.65 of ten bounds.
    """
    right = [[(box(0), 0, 0), (box(100), 0, 0)]]
    found = [[(box(200), 0, 0.9), (box(2), 0, 0.8)]]
    scores = BoxScores(right, found)
    share = 51 / 101  # of the recalls 0, 0.01 … 1 those up to 1/2
    assert scores.score("ap50").value == pytest.approx(100 * share / 2)
    assert scores.score("ap").value == pytest.approx(100 * 0.4 * share / 2)


def test_a_crowd_is_neither_missed_nor_found():
    right = [[(box(0), 0, 0), (box(100), 0, 1)]]
    without = [[(box(0), 0, 0.9)]]
    within = [[(box(0), 0, 0.9), (box(100), 0, 0.95)]]
    for found in (without, within):
        assert BoxScores(right, found).score("ap").value == pytest.approx(100.0)


def drawn(share, seed=0):
    draw = random.Random(seed)
    right = [[(box(30 * n), 0, 0) for n in range(4)] for _ in range(12)]
    found = [
        [(edges, 0, draw.random()) for edges, _, _ in row if draw.random() < share] for row in right
    ]
    return BoxScores(right, found)


def test_scores_do_not_depend_on_what_was_resampled_before():
    scores = drawn(0.6)
    plain = [scores.score(kind).value for kind in ("ap", "ap50")]
    resampled = [scores.score(kind, samples=20) for kind in ("ap", "ap50")]
    assert [one.value for one in resampled] == plain
    low, high = resampled[1].interval
    assert low < plain[1] < high
    assert scores.measure("ap")(np.arange(12)) == plain[0]
    rows = np.array([3, 3, 5])
    alone = BoxScores([scores.right[n] for n in rows], [scores.found[n] for n in rows])
    assert scores.measure("ap50")(rows) == pytest.approx(alone.score("ap50").value)


def test_a_much_better_system_is_told_apart(monkeypatch):
    monkeypatch.setattr("regard.metrics.resampling.SAMPLES", 50)
    found = compare_boxes(drawn(0.9), drawn(0.3))
    assert [one.name for one in found] == ["AP", "AP50"]
    assert found[1].system.value > 80 > 40 > found[1].baseline.value
    assert found[1].significant()


def test_other_counts_are_refused():
    with pytest.raises(DataError, match="hypotheses for"):
        BoxScores([[]], [[], []]).score("ap")


@pytest.mark.parametrize("seed", range(4))
def test_is_what_the_library_says(seed, capsys):
    draw = random.Random(seed)

    def some(most, last):
        return [
            (
                [x := draw.random() * 60, y := draw.random() * 60, x + 30, y + 20],
                draw.randrange(3),
                last(),
            )
            for _ in range(draw.randrange(most))
        ]

    right = [some(6, lambda: int(draw.random() < 0.1)) for _ in range(15)]
    found = [some(12, draw.random) for _ in right]
    for row, made in zip(right, found, strict=True):  # some that are near
        made += [
            ([x + draw.random() * 6 for x in edges], kind, draw.random()) for edges, kind, _ in row
        ]
    scores = BoxScores(right, found)
    held = scores.evaluated()
    held.accumulate()
    precision = held.eval["precision"][..., 0, -1]  # [overlaps, recalls, classes]
    for kind, part in (("ap", precision), ("ap50", precision[:1])):
        assert scores.score(kind).value == pytest.approx(100 * part[part > -1].mean())
    assert 1 < scores.score("ap").value < 99
