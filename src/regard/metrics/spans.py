"""Scores of tags: F1 of the spans that they spell (seqeval's), and accuracy.

Spans follow CoNLL's reading of B-x, I-x and O: an I-x that continues no x begins one (Tjong Kim
Sang and De Meulder, 2003). E-x ends one, S-x is one. Tags that are not of these forms spell none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.errors import missing_extra
from regard.metrics.resampling import Ints, Measure, compared, interval
from regard.metrics.score import Comparison, Score, check_sizes

Tags = Sequence[Sequence[str]]
OUTSIDE = "O"
"""The tag of a word that belongs to no span."""

FORMS = ("B", "I", "E", "S")

Counts = npt.NDArray[np.int64]


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Label, first word and the first after it, of each span."""
    found: list[tuple[str, int, int]] = []
    before = ("", "")
    for n, tag in enumerate(tags):
        form, _, name = tag.partition("-")
        if form in FORMS and name:
            if form in ("I", "E") and before in (("B", name), ("I", name)):
                found[-1] = (name, found[-1][1], n + 1)
            else:
                found.append((name, n, n + 1))
        before = form, name
    return found


def spells(tag: str) -> bool:
    """Whether a tag is part of a span."""
    return bool(spans_of([tag]))


def score_tags(right: Tags, answered: Tags, samples: int = 0) -> dict[str, Score]:
    """F1 of spans with precision and recall, where there are any, and accuracy of tags.

    Raises:
        DataError: unequal counts, or nothing to score.
    """
    check_sizes(answered, right)
    counts = _counts(right, answered)
    found = {"f1": _span_score(right, answered, counts, samples)} if counts[:, :2].any() else {}
    low_high = interval(_measure(_accuracy, counts), len(counts), samples)
    return {**found, "accuracy": Score("accuracy", _accuracy(counts), "of tags", low_high)}


def _span_score(right: Tags, answered: Tags, counts: Counts, samples: int) -> Score:
    library, version = _library()
    # The library would read a span into any other tag.
    given = [[_spelled(row) for row in rows] for rows in (right, answered)]
    parts = {
        "precision": 100 * float(library.precision_score(*given, zero_division=0)),
        "recall": 100 * float(library.recall_score(*given, zero_division=0)),
    }
    f1 = 100 * float(library.f1_score(*given, zero_division=0))
    low_high = interval(_measure(_f1, counts), len(counts), samples)
    return Score("span F1", f1, f"seqeval {version}, micro", low_high, parts)


def _spelled(tags: Sequence[str]) -> list[str]:
    return [tag if spells(tag) else OUTSIDE for tag in tags]


def compare_tags(right: Tags, ours: Tags, theirs: Tags) -> list[Comparison]:
    """F1 and accuracy of two systems, by paired bootstrap resampling of the sentences."""
    first, second = _counts(right, ours), _counts(right, theirs)
    found = []
    met = any(counts[:, :2].any() for counts in (first, second))
    spans = [("span F1", _f1, "micro")] if met else []
    for name, function, signature in [*spans, ("accuracy", _accuracy, "of tags")]:
        scores = [Score(name, function(counts), signature) for counts in (first, second)]
        measures = (_measure(function, first), _measure(function, second))
        found.append(compared((scores[0], scores[1]), measures, len(first)))
    return found


def _counts(right: Tags, answered: Tags) -> Counts:
    """Of each sentence: spans right, answered and both; tags, and those right [N, 5]."""
    rows = []
    for wanted, given in zip(right, answered, strict=True):
        here, there = set(spans_of(wanted)), set(spans_of(given))
        same = sum(a == b for a, b in zip(wanted, given, strict=True))
        rows.append((len(here), len(there), len(here & there), len(wanted), same))
    return np.array(rows, dtype=np.int64)


def _f1(counts: Counts) -> float:
    wanted, given, both = counts[:, :3].sum(axis=0)
    return 200 * float(both) / max(float(wanted + given), 1.0)


def _accuracy(counts: Counts) -> float:
    tags, same = counts[:, 3:].sum(axis=0)
    return 100 * float(same) / max(float(tags), 1.0)


def _measure(function: Any, counts: Counts) -> Measure:
    def measure(rows: Ints) -> float:
        return float(function(counts[rows]))

    return measure


def _library() -> tuple[Any, str]:
    try:
        from importlib.metadata import version

        from seqeval import metrics
    except ImportError as error:
        raise missing_extra("seqeval", "scores") from error
    return metrics, version("seqeval")
