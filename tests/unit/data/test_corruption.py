"""Spans behind sentinels: lengths and shapes as T5's code has them, draws that can be repeated."""

import numpy as np
import pytest

from regard.data import BlockSettings, BlockSource, PreparedData
from regard.data.corruption import CorruptedBlocks, Corruption, gap, gap_ids
from regard.data.tokenizers.base import train_tokenizer
from regard.errors import RecipeError

GAPS = range(900, 1000)
START, END = 1, 2


def corruption(rate=0.15, span=3.0, gaps=GAPS):
    return Corruption(rate, span, list(gaps), START, END)


def source(length=56, count=4, shuffle=True, seed=1):
    rows = [np.random.default_rng(0).integers(4, 900, size=1_300).tolist()]
    data = PreparedData.in_memory({"text": rows})
    return BlockSource(data, BlockSettings(length - 1, count, None, seed, shuffle))


@pytest.mark.parametrize(
    ("longest", "block", "target"),
    [(512, 568, 114), (128, 141, 29), (32, 34, 8)],  # as random_spans_helper gives them
)
def test_blocks_fill_the_source(longest, block, target):
    found = corruption()
    assert found.block(longest) == block
    assert found.lengths(block) == (longest, target)


def restored(one, two):
    """The text of two sides: each gap with what is behind its sentinel."""
    spans, number = {}, None
    for token in two[1:-1]:
        if token in GAPS:
            number = token
            spans[number] = []
        else:
            spans[number].append(token)
    assert list(spans) == list(GAPS[: len(spans)])
    text = []
    for token in one[:-1]:
        text += spans.pop(token) if token in spans else [token]
    assert not spans
    return text


@pytest.mark.parametrize("length", [2, 3, 7, 34, 568])
@pytest.mark.parametrize(("rate", "span"), [(0.15, 3.0), (0.5, 1.0), (0.9, 10.0)])
def test_nothing_is_lost_and_lengths_are_as_foretold(length, rate, span):
    found = corruption(rate, span, range(900, 1900))
    ids = np.arange(4, 4 + length)
    seen = set()
    for seed in range(20):
        one, two = found.hide(ids, np.random.Philox(np.random.SeedSequence([seed])))
        assert (len(one), len(two) - 1) == found.lengths(length)
        assert (one[-1], two[0], two[-1]) == (END, START, END)
        assert one[0] == 4  # a text begins with what is kept
        if length < 568:
            assert restored(one.tolist(), two.tolist()) == ids.tolist()
        seen.add(tuple(one))
    assert len(seen) > 10 or length < 34 or span == 1.0  # else each other token is hidden


def test_batches_have_no_padding_and_can_be_made_again():
    made, again = (CorruptedBlocks(source(), corruption()) for _ in range(2))
    tokens = made.tokens(1)
    epochs = []
    for epoch in (0, 1):
        for k in range(made.num_micro_batches(epoch)):
            batch, same = made.micro_batch(epoch, k), again.micro_batch(epoch, k)
            assert all((batch[key] == same[key]).all() for key in batch)
            assert batch["source_mask"].all()
            assert batch["target_mask"].all()
            if epoch:
                wanted = [batch["source_ids"].numel(), batch["target_ids"][:, 1:].numel()]
                assert tokens[k].tolist() == wanted
        epochs.append(batch["source_ids"])
    assert epochs[0].shape != epochs[1].shape or (epochs[0] != epochs[1]).any()


def test_the_last_block_of_a_text_in_order_is_shorter():
    made = CorruptedBlocks(source(shuffle=False), corruption())
    last = made.num_micro_batches(0) - 1
    whole, rest = (made.micro_batch(0, k)["source_ids"] for k in (0, last))
    assert rest.shape[1] < whole.shape[1]
    assert made.tokens(0)[last][0] == rest.numel()


def test_what_cannot_be():
    with pytest.raises(RecipeError, match=r"28 gaps, the vocabulary 20 sentinels"):
        corruption(gaps=GAPS[:20]).block(512)
    with pytest.raises(RecipeError, match="no room"):
        corruption().block(2)


def test_sentinels_are_the_last_entries_of_a_vocabulary():
    extra = tuple(gap(n) for n in range(100))
    tokenizer = train_tokenizer("bytes", ["some text"], extra=extra)
    assert gap_ids(tokenizer) == list(range(tokenizer.vocab_size - 100, tokenizer.vocab_size))
