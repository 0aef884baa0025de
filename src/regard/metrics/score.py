"""What a metric returns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.errors import DataError


@dataclass(frozen=True)
class Score:
    """One corpus score.

    Attributes:
        name: as the field writes it, e.g. ``BLEU``, ``chrF2``.
        value: the score; percentages run from 0 to 100.
        signature: all that decides the number beside the texts; quote it with the score.
        interval: low and high end of the 95 % interval, where it was asked for.
        details: parts of the score (BLEU: ``precision_1`` … ``precision_4``,
            ``brevity_penalty``, ``length``, ``reference_length``).
    """

    name: str
    value: float
    signature: str
    interval: tuple[float, float] | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.name} {self.value:.2f}"
        if self.interval is not None:
            text += f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
        return f"{text} ({self.signature})" if self.signature else text

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "signature": self.signature,
            "interval": list(self.interval) if self.interval else None,
            "details": dict(self.details),
        }

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same references, under one metric.

    Attributes:
        name: of the metric.
        baseline: the first system's score.
        system: the second system's score.
        p_value: how probable so large a difference is if the systems are equally good.
        signature: of the metric and the test.
    """

    name: str
    baseline: Score
    system: Score
    p_value: float
    signature: str

    @property
    def difference(self) -> float:
        """The system's score less the baseline's."""
        return self.system.value - self.baseline.value

    def significant(self, level: float = 0.05) -> bool:
        """Whether the difference is unlikely to be chance."""
        return self.p_value < level


def check_sizes(hypotheses: Sequence[Any], references: Sequence[Any]) -> None:
    """Refuse corpora that do not belong together.

    Raises:
        DataError: unequal counts, or nothing to score.
    """
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses):,} hypotheses for {len(references):,} references",
            hint="hypothesis n must belong to reference n",
        )
    if not len(hypotheses):
        raise DataError("there is nothing to score")


def alternatives(references: Sequence[str | Sequence[str]]) -> list[list[str]]:
    """The right texts of each hypothesis, of which there are one or several."""
    return [[one] if isinstance(one, str) else list(one) for one in references]


def exact_match(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> Score:
    """Percentage of hypotheses equal to a reference of theirs, with Wilson's 95 % interval.

    White space at the ends is not compared.
    """
    check_sizes(hypotheses, references)
    n = len(hypotheses)
    rows = zip(hypotheses, alternatives(references), strict=True)
    hits = sum(any(h.strip() == r.strip() for r in right) for h, right in rows)
    share, z = hits / n, 1.959964
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(center - half, 0.0), min(center + half, 1.0)
    return Score(
        "exact match", 100 * share, "", (100 * low, 100 * high), {"hits": hits, "count": n}
    )
