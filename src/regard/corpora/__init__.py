"""Corpora that the project makes itself, from a seed, the same bytes on every machine.

``demo``: English to German by a bilingual grammar, tested on combinations of words that training
never had. ``copy-digits``: strings of digits to be copied.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regard.corpora.corpus import Corpus, Pair, english_german
from regard.corpora.digits import copy_digits
from regard.corpora.files import write_corpus
from regard.corpora.showcase import DEMO_SHOWCASE
from regard.errors import RegardError

__all__ = ["Corpus", "Pair", "make", "names", "showcase", "write"]


@dataclass(frozen=True)
class _Kind:
    """A corpus by name. Its version counts up whenever the same seed gives other bytes."""

    version: int
    make: Callable[[int, int], Corpus]
    size: int
    suffixes: tuple[str, str]
    showcase: tuple[Pair, ...]


_CORPORA = {
    "demo": _Kind(1, english_german, 100_000, ("en", "de"), DEMO_SHOWCASE),
    "copy-digits": _Kind(
        1,
        copy_digits,
        50_000,
        ("source", "target"),
        tuple(Pair(text, text) for text in ("3 1 4 1 5 9 2 6 5 3 5", "2 0 1 7", "7 7 7 0 7 7")),
    ),
}


def names() -> list[str]:
    """The names of the corpora."""
    return list(_CORPORA)


def _kind(name: str) -> _Kind:
    if name not in _CORPORA:
        near = difflib.get_close_matches(name, _CORPORA, n=1) or list(_CORPORA)
        hint = "did you mean " + " or ".join(repr(word) for word in near) + "?"
        raise RegardError(f"there is no corpus named {name!r}", hint=hint)
    return _CORPORA[name]


def make(name: str, *, seed: int = 2017, size: int | None = None) -> Corpus:
    """A corpus in memory.

    Args:
        size: pairs of the training split; validation and test have a twentieth each, 1,000 at most.

    Raises:
        RegardError: there is no corpus of the name, or the size is too small.
    """
    kind = _kind(name)
    return kind.make(seed, kind.size if size is None else size)


def write(
    name: str, directory: str | Path, *, seed: int = 2017, size: int | None = None
) -> dict[str, Path]:
    """Write a corpus as parallel text files, a sentence a line, or use those that are there.

    Args:
        directory: made where it is missing.
        size: pairs of the training split; validation and test have a twentieth each, 1,000 at most.

    Returns:
        The files by ``train.source``, ``train.target``, ``valid.source``, ``valid.target``,
        ``test.source`` and ``test.target``.

    Raises:
        RegardError: there is no corpus of the name, the size is too small, the files cannot be
            written, or others of their names are in the way.
    """
    kind = _kind(name)
    pairs = kind.size if size is None else size
    wanted: dict[str, object] = {
        "name": name,
        "version": kind.version,
        "seed": seed,
        "size": pairs,
    }
    return write_corpus(Path(directory), wanted, kind.suffixes, lambda: kind.make(seed, pairs))


def showcase(name: str) -> tuple[Pair, ...]:
    """A few sentences to show what a model trained on the corpus can do, with what is right.

    Each of the demo's has a combination of words that training never had.

    Raises:
        RegardError: there is no corpus of the name.
    """
    return _kind(name).showcase
