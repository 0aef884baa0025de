"""Blocks: every token is predicted once, documents keep apart, an epoch is a pure function."""

import itertools

import numpy as np
import pytest
import torch

from regard.data import BlockSettings, BlockSource, PreparedData
from regard.errors import DataError

ROWS = [[10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34, 35, 36]]
TEXT = list(itertools.chain.from_iterable(ROWS))
SEPARATOR = 3
DOCUMENTS = [[SEPARATOR, *row] for row in ROWS]


def source(length, count, *, apart=False, shuffle=False, rows=ROWS, seed=0):
    data = PreparedData.in_memory({"text": rows})
    separator = SEPARATOR if apart else None
    return BlockSource(data, BlockSettings(length, count, separator, seed, shuffle))


def batches(found, epoch=0):
    return [found.micro_batch(epoch, k) for k in range(found.num_micro_batches(epoch))]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 12, 40])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_in_order_every_token_is_predicted_once(apart, length, count):
    stream = list(itertools.chain.from_iterable(DOCUMENTS)) if apart else TEXT
    found = source(length, count, apart=apart)
    made = batches(found)
    blocks = [row for batch in made for row in batch["ids"].tolist()]
    assert [token for block in blocks for token in block[1:]] == stream[1:]
    assert [block[0] for block in blocks] == stream[:-1:length]
    assert found.tokens().sum() == len(stream) - 1
    assert all(batch["ids"].shape[0] <= count for batch in made)


def test_documents_are_told_apart():
    found = source(6, 1, apart=True)
    first, second, _ = batches(found)
    assert first["ids"].tolist() == [[3, 10, 11, 12, 13, 3, 20]]
    assert first["documents"].tolist() == [[0, 0, 0, 0, 0, 1, 1]]
    assert second["ids"].tolist() == [[20, 21, 3, 30, 31, 32, 33]]
    assert second["documents"].tolist() == [[0, 0, 1, 1, 1, 1, 1]]
    assert "documents" not in source(6, 1, apart=True, rows=[TEXT * 2]).micro_batch(0, 0)


def test_an_epoch_is_a_pure_function():
    rows = [list(range(100, 400))]
    one, other = (source(8, 3, shuffle=True, rows=rows, seed=5) for _ in range(2))
    for epoch in (2, 0, 1):
        for k in range(one.num_micro_batches(epoch)):
            assert torch.equal(one.micro_batch(epoch, k)["ids"], other.micro_batch(epoch, k)["ids"])
    starts = [np.concatenate(one.plan(epoch)) for epoch in range(4)]
    assert len({tuple(sorted(s % 8)) for s in starts}) > 1  # cuts move
    for found in starts:
        assert sorted(set(np.diff(sorted(found)))) == [8]
        assert list(found) != sorted(found)
    others = source(8, 3, shuffle=True, rows=rows, seed=6)
    assert any(not np.array_equal(a, b) for a, b in zip(one.plan(0), others.plan(0), strict=True))


def test_where_blocks_come_from():
    for apart in (False, True):
        found = source(6, 2, apart=apart)
        origins = [line for batch in batches(found) for line in found.describe(batch)]
        assert origins[0] == "<memory>:1"
        assert origins[-1] == "<memory>:3"


def test_too_short_a_text():
    with pytest.raises(DataError, match="the text has 13 tokens, a block takes 15"):
        source(14, 1, shuffle=True)
    assert len(batches(source(14, 1))) == 1
    assert len(batches(source(12, 1, shuffle=True))) == 1


COUNTS = [[0, 1, 1, 0], [1, 1], [0, 0, 0, 1, 0, 1, 1]]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 12])
def test_what_counts_follows_its_tokens(length, shuffle):
    data = PreparedData.in_memory({"turns": ROWS, "counted": COUNTS})
    found = BlockSource(data, BlockSettings(length, 2, SEPARATOR, 5, shuffle))
    flags = zip(TEXT, itertools.chain.from_iterable(COUNTS), strict=True)
    wanted = dict(flags) | {SEPARATOR: 0}
    for epoch in range(3):
        made = batches(found, epoch)
        for batch in made:
            assert batch["counted"].tolist() == [
                [bool(wanted[token]) for token in row] for row in batch["ids"].tolist()
            ]
        labels = [[int(batch["counted"][:, 1:].sum())] for batch in made]
        assert found.tokens(epoch).tolist() == labels
        assert labels[found.worst(epoch)] == max(labels)
    if not shuffle:
        assert sum(map(sum, COUNTS)) == found.tokens().sum() == found.labels
