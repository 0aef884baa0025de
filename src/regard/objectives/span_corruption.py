"""Writing what stands behind the gaps of a text (Raffel et al., 2020, section 3.1.4).

Shapes: as `CrossEntropy`'s.
"""

from __future__ import annotations

from regard.objectives.cross_entropy import CrossEntropy


class SpanCorruption(CrossEntropy):
    """Cross-entropy of the hidden spans, each behind its sentinel.

    Args:
        mask_rate: share of the tokens that are hidden.
        span_length: how many of them stand together, on average.
        label_smoothing: ε, as in `CrossEntropy`.

    Raises:
        ValueError: the rate is no share, or spans are shorter than a token.
    """

    reads = "spans"
    scores = ("exact_spans",)

    def __init__(
        self, mask_rate: float = 0.15, span_length: float = 3.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(label_smoothing)
        if not 0.0 < mask_rate < 1.0:
            raise ValueError(f"objective.mask_rate lies between 0 and 1, not at {mask_rate}")
        if span_length < 1.0:
            raise ValueError(f"objective.span_length is at least 1, not {span_length}")
        self.mask_rate = mask_rate
        self.span_length = span_length
