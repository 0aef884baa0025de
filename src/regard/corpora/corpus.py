"""Corpora in memory: splits of sentence pairs, and the English-German one of the demo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from regard.corpora import english, german
from regard.corpora.grammar import Sentence
from regard.corpora.sampler import Sampler
from regard.corpora.split import held_out, unseen
from regard.errors import RegardError

MIN_SIZE = 1000
_TEST_SEED = 0x7E57  # joined to the corpus's seed, so that the test draws differ from training's
_DRAWS_PER_TEST_PAIR = 100


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Corpus:
    """The three splits of a made corpus."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]

    def splits(self) -> dict[str, list[Pair]]:
        """The splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def check_size(size: int) -> int:
    """The pairs of the validation and of the test split that go with ``size`` pairs of training.

    Raises:
        RegardError: the corpus would be too small to hold its own test's words.
    """
    if size < MIN_SIZE:
        raise RegardError(
            f"a corpus of {size} training pairs is too small",
            hint=f"ask for {MIN_SIZE} or more",
        )
    return min(1000, size // 20)


def translate(sentence: Sentence) -> Pair:
    """The two readings of a meaning."""
    return Pair(english.render(sentence), german.render(sentence))


def count_words(sentences: Iterable[str]) -> Counter[str]:
    """How often each word stands in the sentences, as it is written, punctuation apart."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(split_words(sentence))
    return counts


def split_words(sentence: str) -> list[str]:
    """The words of a sentence, punctuation left out."""
    return sentence[:-1].replace(",", "").split()


def english_german(seed: int, size: int) -> Corpus:
    """The bilingual corpus: ``size`` distinct training pairs, validation pairs and test pairs.

    Training and validation are random sentences without any held-out combination of words, no two
    alike, also not between the splits. Each test sentence has at least one held-out combination,
    and each of its words stands in training, in the very form, at least once in 10,000 sentences.

    Raises:
        RegardError: ``size`` is too small.
    """
    other = check_size(size)
    sampler = Sampler(seed, lambda combination: not held_out(combination))
    seen: dict[str, str] = {}
    while len(seen) < size + other:
        pair = translate(sampler.sentence())
        seen.setdefault(*pair)
    pairs = [Pair(*item) for item in seen.items()]
    train = pairs[other:]
    return Corpus(train, pairs[:other], _held_out_pairs(seed, other, train))


def _held_out_pairs(seed: int, size: int, train: list[Pair]) -> list[Pair]:
    least = len(train) // 10_000
    sources, targets = (count_words(pair[side] for pair in train) for side in (0, 1))
    sampler = Sampler(seed ^ _TEST_SEED)
    found: dict[str, str] = {}
    for _ in range(size * _DRAWS_PER_TEST_PAIR):
        if len(found) == size:
            return [Pair(*item) for item in found.items()]
        sentence = sampler.sentence()
        if unseen(sentence):
            pair = translate(sentence)
            source, target = map(split_words, pair)
            rarest = min(*(sources[word] for word in source), *(targets[word] for word in target))
            if rarest > 0 and rarest >= least:
                found.setdefault(*pair)
    raise RegardError(
        "the training sentences hold too few words to draw a test split from",
        hint="ask for a larger corpus",
    )
