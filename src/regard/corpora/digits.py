"""Copy-digits: strings of digits whose translation is themselves, a quick check of a machine."""

from __future__ import annotations

from random import Random

from regard.corpora.corpus import Corpus, Pair, check_size

MAX_LENGTH = 16


def copy_digits(seed: int, size: int) -> Corpus:
    """Distinct strings of 1 to 16 digits, split at random; the source is the target.

    The training strings are drawn first, so that it has all of the few short ones.

    Raises:
        RegardError: ``size`` is too small.
    """
    other = check_size(size)
    random = Random(seed)
    seen: dict[str, None] = {}
    while len(seen) < size + 2 * other:
        length = 1 + int(random.random() * MAX_LENGTH)
        seen[" ".join(str(int(random.random() * 10)) for _ in range(length))] = None
    pairs = [Pair(text, text) for text in seen]
    return Corpus(pairs[:size], pairs[size : size + other], pairs[size + other :])
