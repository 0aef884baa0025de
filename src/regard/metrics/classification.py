"""Scores of classes and numbers: scikit-learn's and scipy's own, behind a small face."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from regard.errors import missing_extra
from regard.metrics.resampling import Measure, interval, p_value
from regard.metrics.score import Comparison, Score, check_sizes

SAMPLES = 1000

Scorer = Callable[[Any, Any], float]
"""From what is right and what was answered to a score; percentages run to 100."""


def class_scorers(labels: Sequence[str]) -> dict[str, tuple[str, Scorer, str]]:
    """Name, scorer and signature of each score of single classes.

    With two classes F1 is that of the second one, as GLUE has it; else their unweighted mean.
    """
    scores = _library()
    two = len(labels) == 2

    def f1(right: Any, answered: Any) -> float:
        how = {"pos_label": 1} if two else {"labels": range(len(labels))}
        average = "binary" if two else "macro"
        return 100 * float(
            scores.f1_score(right, answered, average=average, zero_division=0.0, **how)
        )

    of = f"of {labels[1]!r}" if two else "mean of the classes"
    version = _version()
    return {
        "accuracy": ("accuracy", _accuracy, ""),
        "f1": ("F1", f1, f"F1 {of}|{version}"),
        "matthews": ("Matthews", _matthews, f"100 × Matthews correlation|{version}"),
    }


def set_scorers(count: int) -> dict[str, tuple[str, Scorer, str]]:
    """Of sets of classes, as rows of 0 and 1 [N, C]."""
    scores = _library()

    def f1(right: Any, answered: Any) -> float:
        return 100 * float(scores.f1_score(right, answered, average="micro", zero_division=0.0))

    def exact(right: Any, answered: Any) -> float:
        return 100 * float((right == answered).all(axis=1).mean())

    return {
        "f1": ("F1", f1, f"micro F1 over {count} labels|{_version()}"),
        "exact_match": ("exact match", exact, "all labels of a text right"),
    }


def number_scorers() -> dict[str, tuple[str, Scorer, str]]:
    """Of numbers."""
    _library()
    from scipy import stats

    def correlation(function: Any) -> Scorer:
        def measure(right: Any, answered: Any) -> float:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what does not vary
                found = float(function(right, answered).statistic)
            return 100 * found if np.isfinite(found) else 0.0

        return measure

    return {
        "pearson": ("Pearson", correlation(stats.pearsonr), "100 × Pearson correlation"),
        "spearman": ("Spearman", correlation(stats.spearmanr), "100 × Spearman correlation"),
    }


def score_all(
    scorers: Mapping[str, tuple[str, Scorer, str]], right: Any, answered: Any, samples: int = 0
) -> dict[str, Score]:
    """Each score of some answers, with 95 % intervals where there are resamples.

    Raises:
        DataError: unequal counts, or nothing to score.
    """
    check_sizes(answered, right)
    right, answered = np.asarray(right), np.asarray(answered)
    return {
        key: Score(
            name,
            scorer(right, answered),
            signature,
            interval(_over(scorer, right, answered), len(right), samples),
        )
        for key, (name, scorer, signature) in scorers.items()
    }


def compare_all(
    scorers: Mapping[str, tuple[str, Scorer, str]], right: Any, ours: Any, theirs: Any
) -> list[Comparison]:
    """Each score of two systems on the same examples, by paired bootstrap resampling."""
    right, ours, theirs = np.asarray(right), np.asarray(ours), np.asarray(theirs)
    found = []
    for name, scorer, signature in scorers.values():
        scores = [Score(name, scorer(right, made), signature) for made in (theirs, ours)]
        measures = (_over(scorer, right, ours), _over(scorer, right, theirs))
        p = p_value(measures, len(right), SAMPLES)
        test = f"paired bootstrap of {SAMPLES}"
        text = f"{signature}|{test}" if signature else test
        found.append(Comparison(name, scores[0], scores[1], p, text))
    return found


def _over(scorer: Scorer, right: Any, answered: Any) -> Measure:
    return lambda rows: scorer(right[rows], answered[rows])


def _accuracy(right: Any, answered: Any) -> float:
    return 100 * float((right == answered).mean())


def _matthews(right: Any, answered: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of answers that are all one class
        return 100 * float(_library().matthews_corrcoef(right, answered))


def _library() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise missing_extra("scikit-learn", "scores") from error
    return metrics


def _version() -> str:
    import sklearn

    return f"scikit-learn {sklearn.__version__}"
