"""The buffers behind both caches (their law: tests/laws/test_steps.py)."""

import pytest
import torch

from regard.nn import CACHES, Causal, DecodingState, Padding
from regard.nn.cache import GROWTH, LayerCache


def heads(rows, length, width=3):
    return torch.randn(rows, 2, length, width)


def test_appending_gives_all_so_far():
    cache = LayerCache()
    keys, values = heads(2, GROWTH + 9), heads(2, GROWTH + 9, 5)
    for start, end in ((0, 3), (3, 4), (4, GROWTH), (GROWTH, GROWTH + 9)):
        key, value = cache.append(keys[:, :, start:end], values[:, :, start:end])
        assert torch.equal(key, keys[:, :, :end])
        assert torch.equal(value, values[:, :, :end])


def test_few_steps_copy_the_buffers():
    cache, places = LayerCache(), set()
    for _ in range(4 * GROWTH):
        key, _ = cache.append(heads(1, 1), heads(1, 1))
        places.add(key.data_ptr())
    assert len(places) <= 4


def test_selected_rows_go_on():
    cache = LayerCache()
    key, value = cache.append(heads(3, 2), heads(3, 2))
    memory = heads(3, 4), heads(3, 4)
    cache.memory = memory
    rows = torch.tensor([2, 0])
    cache.select(rows)
    assert torch.equal(cache.memory[1], memory[1][rows])
    more = heads(2, 1)
    keys, values = cache.append(more, more)
    assert torch.equal(keys, torch.cat([key[rows], more], dim=2))
    assert torch.equal(values, torch.cat([value[rows], more], dim=2))


@pytest.mark.parametrize("name", CACHES)
def test_a_state_says_how_far_it_is(name):
    cache = CACHES[name](2, 3, 2)
    state = DecodingState(cache, Padding(torch.ones(3, 4).bool()) if name == "shared" else None)
    assert (state.sentences, state.width, state.length) == (3, 2, 0)
    ids, positions, _ = cache.open(torch.zeros(6, 2, dtype=torch.long))
    cache.close(torch.zeros(*ids.shape, 4))
    assert state.length == 2
    state.keep(torch.tensor([1]))
    assert (state.sentences, state.width, state.length) == (1, 2, 2)
    ids, positions, _ = cache.open(torch.zeros(2, 1, dtype=torch.long))
    assert positions.unique().tolist() == [2]


def test_the_shared_cache_moves_no_key():
    cache = CACHES["shared"](1, 2, 3)
    cache.open(torch.zeros(6, 1, dtype=torch.long))
    cache.layers[0].append(heads(2, 3), heads(2, 3))
    cache.close(torch.zeros(2, 3, 4))
    place = cache.layers[0]._buffers[0].data_ptr()
    cache.advance(torch.tensor([2, 2, 0, 3, 3, 4]))
    assert cache.layers[0]._buffers[0].data_ptr() == place


def test_one_hypothesis_needs_no_ancestry():
    for name in CACHES:
        cache = CACHES[name](1, 2, 1)
        ids, _, rule = cache.open(torch.zeros(2, 3, dtype=torch.long))
        assert ids.shape == (2, 3)
        assert isinstance(rule, Causal)
