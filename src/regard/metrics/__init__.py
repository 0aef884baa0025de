"""Metrics: the field's own scorers behind one small face; nothing heavy is imported before use."""

from regard.metrics.score import Comparison, Score, exact_match
from regard.metrics.translation import bleu, chrf, compare

__all__ = ["Comparison", "Score", "bleu", "chrf", "compare", "exact_match"]
