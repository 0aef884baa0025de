"""Which combinations of words are held out: seen in the test split and nowhere else.

A combination is a pair of lemmas in a grammatical relation (`regard.corpora.grammar.combinations`).
Whether it is held out is a fixed function of its words, so the split never depends on a seed. Every
test sentence holds at least one such pair, no sentence of training or validation holds any, and
each word alone stands in training in other company.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

from regard.corpora.grammar import Combination, Sentence, combinations

HELD_OUT_PER_MILLE = 80  # of the pairs of words
# Kinds of clause of which a verb may lose one in training. A statement is never among them, so each
# of the verb's forms stays there.
VERB_CLAUSES = (
    "question past",
    "question modal",
    "subordinate past",
    "subordinate modal",
)
_VERB_CLAUSE_DRAWS = 8  # so that half of the verbs lose one


def _digest(*words: str) -> int:
    return int.from_bytes(sha256("|".join(words).encode()).digest()[:8], "big")


@cache
def held_out(combination: Combination) -> bool:
    """Whether the combination is kept for the test split."""
    relation, first, second = combination
    if relation == "verb-clause":
        drawn = _digest(relation, first) % _VERB_CLAUSE_DRAWS
        return drawn < len(VERB_CLAUSES) and VERB_CLAUSES[drawn] == second
    return _digest(relation, first, second) % 1000 < HELD_OUT_PER_MILLE


def unseen(sentence: Sentence) -> list[Combination]:
    """The held-out combinations of a sentence, in order."""
    return [combination for combination in combinations(sentence) if held_out(combination)]
