"""Several sources as one, and which of their examples an epoch has.

Shapes: N examples, K parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.data.readers import Example, Source

Ints = npt.NDArray[np.int64]

PART = "part"
"""The column that says which part an example is of, by its number."""


class Prefixed:
    """A source whose first column has the same words before every text."""

    def __init__(self, source: Source, prefix: str) -> None:
        self.inner, self.prefix = source, prefix
        self.columns, self.files = source.columns, source.files
        self.identity: Mapping[str, Any] = {"prefix": prefix, "of": dict(source.identity)}

    def __iter__(self) -> Iterator[Example]:
        for one in self.inner:
            first, *others = one.fields
            first = self.prefix + first if first.strip() else ""  # left out, as without prefix
            yield Example((first, *others), one.file, one.line)


class Joined:
    """Sources of the same columns one after the other, with their numbers as one more column."""

    def __init__(self, parts: Mapping[int, Source]) -> None:
        self.parts = dict(parts)
        every = list(self.parts.values())
        self.columns = (*every[0].columns, PART)
        self.files = tuple(path for one in every for path in one.files)
        self.identity: Mapping[str, Any] = {
            "parts": [[number, dict(one.identity)] for number, one in self.parts.items()],
            "files": [len(one.files) for one in every],
        }

    def __iter__(self) -> Iterator[Example]:
        for number, source in self.parts.items():
            for one in source:
                yield Example((*one.fields, str(number)), one.file, one.line)


class PartCodec:
    """The number of a part as one id."""

    vocab_size = 1 << 16
    fingerprint = "part"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The number that each text is."""
        return [[int(text)] for text in texts]


@dataclass(frozen=True)
class Mixing:
    """Which examples an epoch has: as many as there are, of each part by its rate.

    A part's items are its examples in an order drawn anew for each pass over them, so that none
    comes twice before all came once. What item n of a part is follows from (seed, n) alone, and
    which items an epoch takes from its number.

    Attributes:
        parts: of each example [N].
        rates: of each part [K]; None: its size.
        seed: of the run.
    """

    parts: Ints
    rates: Sequence[float | None]
    seed: int

    def __call__(self, epoch: int) -> Ints:
        """The examples of an epoch, part by part."""
        groups = [np.nonzero(self.parts == part)[0] for part in range(len(self.rates))]
        # A part of which nothing is left has no share.
        weights = [
            float(len(own)) if rate is None or not len(own) else rate
            for own, rate in zip(groups, self.rates, strict=True)
        ]
        found = []
        for part, (own, weight) in enumerate(zip(groups, weights, strict=True)):
            share = len(self.parts) * weight / sum(weights)
            first, end = int(epoch * share), int((epoch + 1) * share)
            if end > first:
                found.append(own[self._items(part, len(own), first, end)])
        return np.concatenate(found)

    def _items(self, part: int, size: int, first: int, end: int) -> Ints:
        """Items ``first`` to ``end`` of a part of so many examples, as their places in it."""
        passes = range(first // size, (end - 1) // size + 1)
        orders = np.concatenate([self._order(part, number, size) for number in passes])
        start = first - passes[0] * size
        return orders[start : start + end - first]

    def _order(self, part: int, number: int, size: int) -> Ints:
        """The order of a pass."""
        random = np.random.Philox(np.random.SeedSequence([self.seed, part, number]))
        return np.argsort(random.random_raw(size), kind="stable")
