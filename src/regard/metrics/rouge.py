"""ROUGE of summaries (Lin, 2004), by the field's own ``rouge-score``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.errors import missing_extra
from regard.metrics.resampling import Ints, Measure, compared, interval
from regard.metrics.score import Comparison, Score, check_sizes

KINDS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
"""Words, pairs of words, and the longest common sequence of the whole text."""


def rouge(
    outputs: Sequence[str], references: Sequence[Sequence[str]], samples: int = 0
) -> dict[str, Score]:
    """Mean F1 of the texts by kind, percent.

    Args:
        outputs: what was written.
        references: what is right of each, of which the best counts, for each kind by itself.
        samples: resamples of the 95 % interval.

    Raises:
        DataError: unequal counts, or nothing to score.
        RegardError: ``rouge-score`` is not installed.
    """
    check_sizes(outputs, references)
    values, signature = _values(outputs, references), _signature()
    return {
        key: Score(
            name,
            float(values[key].mean()),
            signature,
            interval(_measure(values[key]), len(outputs), samples),
        )
        for key, name in KINDS.items()
    }


def compare_rouge(
    references: Sequence[Sequence[str]], ours: Sequence[str], theirs: Sequence[str]
) -> list[Comparison]:
    """Each kind of two systems, by paired bootstrap resampling of the texts."""
    first, second = _values(ours, references), _values(theirs, references)
    found = []
    for key, name in KINDS.items():
        one, other = (Score(name, float(v[key].mean()), _signature()) for v in (first, second))
        measures = (_measure(first[key]), _measure(second[key]))
        found.append(compared((one, other), measures, len(references)))
    return found


def _values(
    outputs: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, npt.NDArray[np.float64]]:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise missing_extra("rouge-score", "scores") from error
    scorer: Any = RougeScorer(list(KINDS), use_stemmer=True)  # type: ignore[no-untyped-call]
    pairs = zip(references, outputs, strict=True)
    rows = [[scorer.score(one, made) for one in right] for right, made in pairs]
    return {
        key: np.array([100 * max(one[key].fmeasure for one in row) for row in rows])
        for key in KINDS
    }


def _signature() -> str:
    return f"F1, stemmed, rouge-score {version('rouge-score')}"


def _measure(values: npt.NDArray[np.float64]) -> Measure:
    def measure(rows: Ints) -> float:
        return float(values[rows].mean())

    return measure
