"""Mixtures: what an epoch has follows from (seed, epoch), by the rates, nothing twice too soon."""

from collections import Counter

import numpy as np
import pytest

from regard.data import BatchSettings, BatchSource, ParallelText, PreparedData, prepare
from regard.data.mixture import PART, Joined, Mixing, PartCodec, Prefixed
from regard.data.tokenizers.base import train_tokenizer

PARTS = np.array([0] * 10 + [1] * 30 + [2] * 60)


def test_by_default_each_comes_once():
    mixing = Mixing(PARTS, [None, None, None], seed=3)
    for epoch in range(3):
        assert sorted(mixing(epoch)) == list(range(100))
    assert mixing(0).tolist() == Mixing(PARTS, [None] * 3, 3)(0).tolist()
    assert mixing(0).tolist() != mixing(1).tolist() != Mixing(PARTS, [None] * 3, 4)(1).tolist()


def test_rates_are_shares_over_epochs():
    mixing = Mixing(PARTS, [1.0, 1.0, 1.0], seed=3)
    counts = Counter()
    for epoch in range(9):
        rows = mixing(epoch)
        assert abs(len(rows) - 100) <= len(mixing.rates)
        counts.update(PARTS[rows].tolist())
    assert [counts[part] for part in range(3)] == [300, 300, 300]


def test_none_comes_twice_before_all_came_once():
    mixing = Mixing(PARTS, [5.0, 2.0, 0.5], seed=1)
    items = np.concatenate([mixing(epoch) for epoch in range(6)])
    for part, size in enumerate((10, 30, 60)):
        own = items[PARTS[items] == part]
        for first in range(0, len(own) - size + 1, size):
            assert len(set(own[first : first + size])) == size


def test_batches_are_of_the_chosen_examples():
    rows = [[5] * (1 + n % 7) for n in range(100)]
    data = PreparedData.in_memory({"text": rows})

    class Whole:
        def lengths(self, data):
            return data.lengths("text")[:, None]

        def __call__(self, data, rows):
            return {"example": rows}

    mixing = Mixing(PARTS, [5.0, 2.0, 0.5], seed=1)
    source = BatchSource(data, Whole(), BatchSettings(40, seed=1), mixing)
    for epoch in (0, 4, 1):  # asked for in any order
        found = np.concatenate(source.plan(epoch))
        assert sorted(found) == sorted(mixing(epoch))
        assert max(data.lengths("text")[batch].sum() for batch in source.plan(epoch)) <= 40


def test_sources_end_to_end_with_prefixes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.s").write_text(f"{name} one\n\n{name} two\n")
        (tmp_path / f"{name}.t").write_text(f"{name} x\nlost\n{name} y\n")
    sources = {
        number: Prefixed(
            ParallelText({"source": tmp_path / f"{name}.s", "target": tmp_path / f"{name}.t"}),
            f"{name}: ",
        )
        for number, name in enumerate("ab")
    }
    joined = Joined(sources)
    assert joined.columns == ("source", "target", PART)
    assert [one.fields for one in joined][3:] == [
        ("b: b one", "b x", "1"),
        ("", "lost", "1"),
        ("b: b two", "b y", "1"),
    ]
    tokenizer = train_tokenizer("words", ["a: b: one two a b x y lost"])
    codecs = {"source": tokenizer, "target": tokenizer, PART: PartCodec()}
    data = prepare(joined, codecs, cache=tmp_path / "cache")
    assert data.column(PART).ids.tolist() == [0, 0, 1, 1]
    assert data.origin(3).endswith("b.s:3")
    other = Joined({0: sources[0], 1: Prefixed(sources[1].inner, "c: ")})
    assert other.identity != joined.identity


@pytest.mark.parametrize("rates", [[1.0, 1.0, 2.0], [None, None, None]])
def test_a_part_without_examples_has_no_share(rates):
    parts = np.array([0] * 4 + [2] * 4)
    assert set(parts[Mixing(parts, rates, 1)(0)]) == {0, 2}
