"""Learning the pieces of a unigram tokenizer by expectation maximisation, vectorised.

As in SentencePiece: many seed pieces, then rounds of two EM steps and a pruning of the pieces
whose loss costs the likelihood least, down to the size wanted. All sums run in a fixed order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LONGEST_PIECE = 16
LONGEST_WORD = 48
MOST_WORDS = 1_000_000
_SEEDS_PER_PIECE = 12
_KEPT_PER_ROUND = 0.75
_STEPS_PER_ROUND = 2
_LEAST_EXPECTED = 0.5
_SPARE = 1.1
_RUNS = re.compile(r"▁?(?:[^\W\d_]+|\d+|(?:(?!▁)[\W_])+)|▁")


def learn_pieces(words: Mapping[str, int], size: int) -> list[tuple[str, float]]:
    """Pieces and their log probabilities, the most probable first.

    Args:
        words: how often each word occurs; longer words than 48 characters are cut for learning,
            and of more than a million types the most frequent are used.
        size: how many pieces at most; single characters take at most half of it.
    """
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    chunks: Counter[str] = Counter()
    for word, count in ranked:
        for start in range(0, len(word), LONGEST_WORD):
            chunks[word[start : start + LONGEST_WORD]] += count
    types = list(chunks)
    counts = np.fromiter(chunks.values(), dtype=np.float64, count=len(types))
    letters = _letters(chunks, max(size // 2, 1))
    pieces, weights = _seeds(chunks, letters, size)
    lattice = Lattice.over(types, pieces)
    scores = np.log(weights) - np.log(weights.sum())
    required = np.fromiter((len(piece) == 1 for piece in pieces), dtype=bool, count=len(pieces))
    alternatives = Lattice.over(pieces, pieces, whole=False)
    target = max(int(size * _SPARE), int(required.sum()))
    while True:
        for _ in range(_STEPS_PER_ROUND):
            expected = lattice.expected(scores, counts)
            scores = _maximise(expected, required)
        alive = np.isfinite(scores)
        if alive.sum() <= target:
            break
        keep = max(target, int(alive.sum() * _KEPT_PER_ROUND))
        usable = alive & ~required
        gain = np.where(usable, scores, 0.0) - np.where(usable, alternatives.best(scores), 0.0)
        cost = expected * gain
        cost[required] = np.inf
        cost[~alive] = -np.inf
        order = np.lexsort((np.arange(len(pieces)), -cost))
        scores[order[keep:]] = -np.inf
    order = np.lexsort((np.arange(len(pieces)), -scores, ~required))[:size]
    final = [(pieces[i], round(float(scores[i]), 6)) for i in order if np.isfinite(scores[i])]
    return sorted(final, key=lambda item: (-item[1], item[0]))


def _letters(words: Mapping[str, int], most: int) -> list[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            counts[letter] += count
    return sorted(counts, key=lambda letter: (-counts[letter], letter))[:most]


def _seeds(words: Mapping[str, int], letters: Sequence[str], size: int) -> tuple[list[str], Floats]:
    """All letters, then the substrings met twice or more with the largest count × length.

    As in SentencePiece no piece holds both letters and digits or punctuation.
    """
    runs: Counter[str] = Counter()
    for word, count in words.items():
        for run in _RUNS.findall(word):
            runs[run] += count
    counts: Counter[str] = Counter()
    for run, count in runs.items():
        for start in range(len(run)):
            for end in range(start + 1, min(start + LONGEST_PIECE, len(run)) + 1):
                counts[run[start:end]] += count
    known = set(letters)
    longer = [
        (-count * len(piece), piece)
        for piece, count in counts.items()
        if count > 1 and len(piece) > 1 and known.issuperset(piece)
    ]
    longer.sort()
    pieces = [*letters, *(piece for _, piece in longer[: _SEEDS_PER_PIECE * size])]
    weights = np.array([counts[piece] * len(piece) for piece in pieces], dtype=np.float64)
    return pieces, weights


def _maximise(expected: Floats, required: npt.NDArray[np.bool_]) -> Floats:
    """New log probabilities: digamma instead of log, which favours sparse vocabularies."""
    alive = required | (expected >= _LEAST_EXPECTED)
    held = np.where(alive, np.maximum(expected, _LEAST_EXPECTED), 1.0)
    return np.where(alive, _digamma(held) - _digamma(held[alive].sum()), -np.inf)


def _digamma(x: Any) -> Any:
    """ψ(x) for x > 0: the recurrence up to 7, then the asymptotic series."""
    x = np.asarray(x, dtype=np.float64).copy()
    result = np.zeros_like(x)
    for _ in range(7):
        small = x < 7
        result = np.where(small, result - 1.0 / x, result)
        x = np.where(small, x + 1.0, x)
    inverse = 1.0 / (x * x)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))
    return result + np.log(x) - 0.5 / x - series


@dataclass(frozen=True)
class Lattice:
    """Every occurrence of a piece in every word, as edges between places in the words.

    Attributes:
        word, start, end, piece: ``[E]``, one entry an edge; ``start`` and ``end`` are places
            in their word.
        lengths: ``[W]`` of the words.
    """

    word: Ints
    start: Ints
    end: Ints
    piece: Ints
    lengths: Ints

    @classmethod
    def over(cls, words: Sequence[str], pieces: Sequence[str], *, whole: bool = True) -> Lattice:
        """The lattice; ``whole=False`` leaves out the edges that span a whole word."""
        number = {piece: i for i, piece in enumerate(pieces)}
        edges: list[tuple[int, int, int, int]] = []
        for w, word in enumerate(words):
            for start in range(len(word)):
                for end in range(start + 1, min(start + LONGEST_PIECE, len(word)) + 1):
                    i = number.get(word[start:end])
                    if i is not None and (whole or end - start < len(word)):
                        edges.append((w, start, end, i))
        table = np.array(edges, dtype=np.int64).reshape(-1, 4)
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        return cls(table[:, 0], table[:, 1], table[:, 2], table[:, 3], lengths)

    def expected(self, scores: Floats, counts: Floats) -> Floats:
        """How often each piece is used, over all segmentations by their probability ``[P]``."""
        alive = np.isfinite(scores[self.piece])
        edges = Lattice(
            self.word[alive], self.start[alive], self.end[alive], self.piece[alive], self.lengths
        )
        weight = scores[edges.piece]
        forward = edges._sweep(edges.start, edges.end, weight, np.logaddexp, forward=True)
        backward = edges._sweep(edges.end, edges.start, weight, np.logaddexp, forward=False)
        total = forward[np.arange(len(self.lengths)), self.lengths]
        usable = np.isfinite(total)[edges.word]
        log = (
            forward[edges.word, edges.start]
            + weight
            + backward[edges.word, edges.end]
            - np.where(usable, total[edges.word], 0.0)
        )
        share = np.where(usable, np.exp(np.where(usable, log, -np.inf)), 0.0)
        return np.bincount(
            edges.piece, weights=share * counts[edges.word], minlength=len(scores)
        ).astype(np.float64)

    def best(self, scores: Floats) -> Floats:
        """The log probability of each word's best segmentation ``[W]``, -inf without any."""
        forward = self._sweep(self.start, self.end, scores[self.piece], np.maximum, forward=True)
        return forward[np.arange(len(self.lengths)), self.lengths]

    def _sweep(
        self, source: Ints, goal: Ints, weight: Floats, add: np.ufunc, *, forward: bool
    ) -> Floats:
        """Sums (or maxima) over all paths from one end of each word to each place ``[W, L+1]``."""
        longest = int(self.lengths.max()) + 1
        state = np.full((len(self.lengths), longest), -np.inf)
        places = range(1, longest) if forward else range(longest - 2, -1, -1)
        first = np.zeros_like(self.lengths) if forward else self.lengths
        state[np.arange(len(self.lengths)), first] = 0.0
        order = np.lexsort((self.word, goal))
        bounds = np.searchsorted(goal[order], np.arange(longest + 1))
        for place in places:
            group = order[bounds[place] : bounds[place + 1]]
            if not len(group):
                continue
            words = self.word[group]
            value = state[words, source[group]] + weight[group]
            heads = np.flatnonzero(np.r_[True, words[1:] != words[:-1]])
            state[words[heads], place] = add.reduceat(value, heads)
        return state
