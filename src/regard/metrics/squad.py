"""Exact match and F1 of answers, as SQuAD defines them (Rajpurkar et al., 2016 and 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.metrics.resampling import Ints, Measure, compared, interval
from regard.metrics.score import Comparison, Score, check_sizes

SIGNATURE = "SQuAD's normalization, best of the answers"
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NAMES = {"exact_match": "exact match", "f1": "F1"}


def normalized(text: str) -> str:
    """Lower case, without punctuation, English articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, right: str) -> float:
    """1 where both are the same when normalized."""
    return float(normalized(answer) == normalized(right))


def overlap(answer: str, right: str) -> float:
    """F1 of the words that both share; where one is empty, whether both are."""
    given, wanted = normalized(answer).split(), normalized(right).split()
    if not given or not wanted:
        return float(given == wanted)
    both = sum((Counter(given) & Counter(wanted)).values())
    return 2 * both / (len(given) + len(wanted))


def score_answers(
    right: Sequence[Sequence[str]], answered: Sequence[str], samples: int = 0
) -> dict[str, Score]:
    """Both scores, percent.

    Args:
        right: every right answer of each question; none where the text does not answer.
        answered: empty where the model says so.
        samples: resamples of the 95 % interval.

    Raises:
        DataError: unequal counts, or nothing to score.
    """
    check_sizes(answered, right)
    values = _values(right, answered)
    return {
        key: Score(
            name,
            100 * float(values[key].mean()),
            SIGNATURE,
            interval(_measure(values[key]), len(right), samples),
        )
        for key, name in _NAMES.items()
    }


def compare_answers(
    right: Sequence[Sequence[str]], ours: Sequence[str], theirs: Sequence[str]
) -> list[Comparison]:
    """Both scores of two systems, by paired bootstrap resampling of the questions."""
    first, second = _values(right, ours), _values(right, theirs)
    found = []
    for key, name in _NAMES.items():
        scores = [Score(name, 100 * float(v[key].mean()), SIGNATURE) for v in (first, second)]
        measures = (_measure(first[key]), _measure(second[key]))
        found.append(compared((scores[0], scores[1]), measures, len(right)))
    return found


def _values(right: Sequence[Sequence[str]], answered: Sequence[str]) -> dict[str, Any]:
    pairs = list(zip(answered, right, strict=True))
    return {
        key: np.array(
            [max(function(made, one) for one in wanted or [""]) for made, wanted in pairs]
        )
        for key, function in {"exact_match": exact, "f1": overlap}.items()
    }


def _measure(values: npt.NDArray[np.float64]) -> Measure:
    def measure(rows: Ints) -> float:
        return 100 * float(values[rows].mean())

    return measure
