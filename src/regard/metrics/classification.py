"""Scores of classes and numbers: scikit-learn's and scipy's own, behind a small face."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.errors import missing_extra
from regard.metrics.resampling import Measure, compared, interval
from regard.metrics.score import Comparison, Score, check_sizes

Function = Callable[[Any, Any], float]
"""From what is right and what was answered to a score; percentages run to 100."""


@dataclass(frozen=True)
class Scorer:
    """One score.

    Attributes:
        name: as the field writes it.
        measure: the field's own.
        signature: what decides the number beside the answers.
        quick: the same number, for thousands of resamples.
    """

    name: str
    measure: Function
    signature: str
    quick: Function


def class_scorers(labels: Sequence[str]) -> dict[str, Scorer]:
    """Of single classes, as their numbers [N].

    With two classes F1 is that of the second one, as GLUE has it; else the unweighted mean of the
    classes that occur or are answered.
    """
    scores, size, two = _library(), len(labels), len(labels) == 2
    of = f"of {labels[1]!r}" if two else "mean of the classes"
    how: dict[str, Any] = {"average": "binary", "pos_label": 1} if two else {"average": "macro"}

    def f1(right: Any, answered: Any) -> float:
        return 100 * float(scores.f1_score(right, answered, zero_division=0.0, **how))

    def matthews(right: Any, answered: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of answers that are all one class
            return 100 * float(scores.matthews_corrcoef(right, answered))

    def over_counts(function: Callable[[Any], float]) -> Function:
        return lambda right, answered: function(
            np.bincount(right * size + answered, minlength=size * size).reshape(size, size)
        )

    signatures = f"F1 {of}|{_version()}", f"100 × Matthews correlation|{_version()}"
    quick_f1 = over_counts(_second_f1 if two else _mean_f1)
    return {
        "accuracy": Scorer("accuracy", _accuracy, "", _accuracy),
        "f1": Scorer("F1", f1, signatures[0], quick_f1),
        "matthews": Scorer("Matthews", matthews, signatures[1], over_counts(_matthews)),
    }


def ranked_scorers() -> dict[str, Scorer]:
    """Of the likeliest classes [N, K], the likeliest first."""

    def among(count: int) -> Function:
        def measure(right: Any, answered: Any) -> float:
            return 100 * float((right[:, None] == answered[:, :count]).any(axis=1).mean())

        return measure

    named = {"top1": ("top-1", 1), "top5": ("top-5", 5)}
    return {
        key: Scorer(name, among(count), f"the class is among the {count} likeliest", among(count))
        for key, (name, count) in named.items()
    }


def set_scorers(count: int) -> dict[str, Scorer]:
    """Of sets of classes, as rows of 0 and 1 [N, C]."""
    scores = _library()

    def f1(right: Any, answered: Any) -> float:
        return 100 * float(scores.f1_score(right, answered, average="micro", zero_division=0.0))

    def quick_f1(right: Any, answered: Any) -> float:
        return 200 * float((right * answered).sum() / max(right.sum() + answered.sum(), 1))

    def exact(right: Any, answered: Any) -> float:
        return 100 * float((right == answered).all(axis=1).mean())

    return {
        "f1": Scorer("F1", f1, f"micro F1 over {count} labels|{_version()}", quick_f1),
        "exact_match": Scorer("exact match", exact, "all labels of a text right", exact),
    }


def number_scorers() -> dict[str, Scorer]:
    """Of numbers [N]."""
    _library()
    from scipy import stats

    def correlation(function: Any) -> Function:
        def measure(right: Any, answered: Any) -> float:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what does not vary
                found = float(function(right, answered).statistic)
            return 100 * found if np.isfinite(found) else 0.0

        return measure

    pearson, spearman = correlation(stats.pearsonr), correlation(stats.spearmanr)
    return {
        "pearson": Scorer("Pearson", pearson, "100 × Pearson correlation", pearson),
        "spearman": Scorer("Spearman", spearman, "100 × Spearman correlation", spearman),
    }


def score_all(
    scorers: Mapping[str, Scorer], right: Any, answered: Any, samples: int = 0
) -> dict[str, Score]:
    """Each score of some answers, with 95 % intervals where there are resamples.

    Raises:
        DataError: unequal counts, or nothing to score.
    """
    check_sizes(answered, right)
    right, answered = np.asarray(right), np.asarray(answered)
    return {
        key: Score(
            one.name,
            one.measure(right, answered),
            one.signature,
            interval(_over(one, right, answered), len(right), samples),
        )
        for key, one in scorers.items()
    }


def compare_all(
    scorers: Mapping[str, Scorer], right: Any, ours: Any, theirs: Any
) -> list[Comparison]:
    """Each score of two systems on the same examples, by paired bootstrap resampling."""
    right, ours, theirs = np.asarray(right), np.asarray(ours), np.asarray(theirs)
    found = []
    for one in scorers.values():
        scores = [
            Score(one.name, one.measure(right, made), one.signature) for made in (ours, theirs)
        ]
        measures = (_over(one, right, ours), _over(one, right, theirs))
        found.append(compared((scores[0], scores[1]), measures, len(right)))
    return found


def _over(scorer: Scorer, right: Any, answered: Any) -> Measure:
    return lambda rows: scorer.quick(right[rows], answered[rows])


def _accuracy(right: Any, answered: Any) -> float:
    return 100 * float((right == answered).mean())


# Of how often class i was right where class j was answered [C, C].


def _second_f1(counts: Any) -> float:
    return 200 * float(counts[1, 1] / max(counts[1].sum() + counts[:, 1].sum(), 1))


def _mean_f1(counts: Any) -> float:
    both = counts.sum(axis=0) + counts.sum(axis=1)
    met = both > 0
    return 200 * float((counts.diagonal()[met] / both[met]).mean())


def _matthews(counts: Any) -> float:
    right, answered, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    spread = [float(total * total - (side * side).sum()) for side in (right, answered)]
    together = float(counts.trace() * total - (right * answered).sum())
    return 100 * together / math.sqrt(spread[0] * spread[1]) if all(spread) else 0.0


def _library() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise missing_extra("scikit-learn", "scores") from error
    return metrics


def _version() -> str:
    import sklearn

    return f"scikit-learn {sklearn.__version__}"
