"""Losses, a file each: what a task trains with."""

from regard.objectives.cross_entropy import CrossEntropy
from regard.objectives.masked_lm import MaskedLM
from regard.objectives.next_token import NextToken
from regard.objectives.term import Term

__all__ = ["CrossEntropy", "MaskedLM", "NextToken", "Term"]
