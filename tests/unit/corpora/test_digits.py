"""The copy-digits corpus."""

import re
from collections import Counter
from hashlib import sha256

from regard import corpora


def test_target_is_the_source_and_splits_are_disjoint():
    made = corpora.make("copy-digits", size=3000)
    pairs = [pair for found in made.splits().values() for pair in found]
    assert {name: len(found) for name, found in made.splits().items()} == {
        "train": 3000,
        "valid": 150,
        "test": 150,
    }
    assert len(set(pairs)) == len(pairs)
    for source, target in pairs:
        assert source == target
        assert re.fullmatch(r"[0-9]( [0-9]){0,15}", source)


def test_lengths_and_digits_are_even():
    made = corpora.make("copy-digits", size=20_000)
    lengths = Counter(len(pair.source.split()) for pair in made.train)
    assert set(lengths) == set(range(1, 17))
    assert lengths[1] == 10
    assert all(900 < lengths[length] < 1700 for length in range(4, 17))
    digits = Counter("".join(pair.source for pair in made.train).replace(" ", ""))
    assert max(digits.values()) < 1.1 * min(digits.values())


def test_same_bytes_on_every_machine():
    text = "\n".join(pair.source for pair in corpora.make("copy-digits", seed=1, size=1000).train)
    assert sha256(text.encode()).hexdigest()[:16] == "1c6582fcce44f5e9"
