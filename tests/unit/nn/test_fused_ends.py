"""What goes with a step by one call: embedding and head, positions' biases, a memory's mask."""

import pytest
import torch

from regard.decoding import DecodingSpec, search
from regard.errors import InputError
from regard.models.t5 import T5, T5Config
from regard.nn.masks import Padding
from regard.nn.native.stack import attach
from regard.nn.packing import pack

from ._fused import BUCKETS, TOKENS, made, noticed, tiny, translator

pytestmark = pytest.mark.usefixtures("in_cpp")


def change_the_head(model):
    model.head.weight.mul_(3)


def change_the_embedding(model):
    model.embedding.weight = torch.nn.Parameter(model.embedding.weight * 3)


def change_the_places(model):
    model.decoder.positions.weight.mul_(3)


def add_a_bias(model):
    model.head.bias = torch.nn.Parameter(torch.ones(50))


def narrow_the_head(model):
    model.head = torch.nn.Sequential(model.head, torch.nn.Tanh())


class TestEnds:
    """What stands before and behind the layers goes with them, as it is now."""

    @pytest.mark.parametrize("how", [attach, pack])
    def test_they_are_served(self, how):
        model = tiny()
        how(model)
        state = model.start(len(TOKENS))
        model.step(TOKENS.repeat(1, 2), state)
        assert state.cache.fused_ends is None  # a prefix goes by parts
        model.step(TOKENS, state)
        assert state.cache.fused_ends
        assert state.cache.slots == state.cache.length == 3

    @pytest.mark.parametrize("how", [attach, pack])
    @pytest.mark.parametrize(
        "change",
        [change_the_head, change_the_embedding, change_the_places, add_a_bias, narrow_the_head],
    )
    def test_changed_ones_are_noticed(self, how, change):
        noticed(how, change)

    @pytest.mark.parametrize(
        "positions", [{"kind": "learned", "offset": 2}, "sinusoidal", "grid", "none", "rotary"]
    )
    def test_the_place_of_each_token(self, positions):
        """Each step gives what the whole text does."""
        model = tiny(positions=positions)
        ids = torch.randint(50, (2, 9))
        expected = model(ids)
        attach(model)
        state = model.start(2)
        for place in range(9):
            logits = model.step(ids[:, place : place + 1], state)
            torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-5)
        assert state.cache.fused_ends

    def test_hooks_are_called(self):
        for find in (lambda m: m.embedding, lambda m: m.head, lambda m: m.decoder):
            model, seen = tiny(), []
            find(model).register_forward_hook(lambda *_, seen=seen: seen.append(1))
            attach(model)
            made(model)
            assert seen

    def test_wrong_tokens_are_said(self, in_cpp):
        model = tiny()
        attach(model)
        for token in (50, -1):
            with pytest.raises(IndexError, match=str(token) if in_cpp else "out of range"):
                model.step(torch.tensor([[token], [0]]), model.start(2))


class TestBias:
    """What positions add to the scores: up to the last token, and never another table's."""

    @pytest.mark.parametrize("positions", [BUCKETS, "alibi"])
    @pytest.mark.parametrize("width", [1, 3])
    def test_whole_texts(self, positions, width):
        model = tiny(positions=positions, max_positions=40)
        ids = torch.randint(50, (6, 40))
        expected = model(ids)
        attach(model)
        state = model.start(6 // width, width=width)
        for place in (0, *range(2, 40)):  # the first step has two tokens
            end = max(2, place + 1)
            logits = model.step(ids[:, place:end], state)
            torch.testing.assert_close(logits, expected[:, end - 1], rtol=1e-4, atol=1e-5)
        assert state.cache.fused_ends
        with pytest.raises(InputError, match="41 tokens is longer"):
            model.step(ids[:, :1], state)

    def test_another_table_is_noticed(self):
        model = tiny(positions=BUCKETS)
        attach(model)
        assert made(model)[1]
        model.decoder.positions.weight.mul_(3)
        assert not made(model)[1]

    @pytest.mark.parametrize("version", ["tiny", "v1_1-small"])
    @pytest.mark.parametrize("beam", [1, 4])
    def test_a_t5_says_the_same(self, version, beam):
        torch.manual_seed(0)
        sizes = {"d_model": 32, "num_layers": 2, "max_positions": 40, "tie": "none"}
        model = T5(T5Config.preset(version, vocab_size=50, overrides=sizes)).eval()
        model.decoder.positions.weight.mul_(5)  # so that distances decide
        source = torch.randint(2, 50, (5, 9))
        mask = torch.arange(9) < torch.tensor([9, 3, 7, 1, 5])[:, None]
        spec = DecodingSpec("beam" if beam > 1 else "greedy", beam=beam, max_length=30)

        def texts():
            found = search(model, source, mask, spec, start_id=0, end_id=1)
            return [hypotheses[0].tokens for hypotheses in found]

        expected = texts()
        attach(model)
        assert texts() == expected
        model.decoder.positions.weight.zero_()
        assert texts() != expected


class TestMasks:
    """Of a memory, and places that each sentence has of its own."""

    @pytest.mark.parametrize("joined", [False, True])
    def test_a_memory_s_padding_is_not_seen(self, joined):
        model = translator()
        source = torch.randint(50, (2, 7))
        real = torch.arange(7) < torch.tensor([[7], [4]])
        expected = model.step(TOKENS, model.start(source, source_mask=real))
        attach(model)
        state = model.start(source, source_mask=real)
        if joined:  # a rule that one call does not know
            state.memory_mask = Padding(real) & Padding(torch.ones_like(real))
        torch.testing.assert_close(model.step(TOKENS, state), expected, rtol=1e-4, atol=1e-5)
        assert (state.cache.fused_ends is None) == joined

    def test_places_of_each_sentence(self):
        model = tiny(positions="rotary")

        def states():
            state = model.start(2)
            ids, _, seen = state.cache.open(TOKENS)
            places = torch.tensor([[3], [8]])
            first = model.decoder(
                model.embedding(ids), mask=seen, positions=places, cache=state.cache
            )
            state.cache.close(first)
            ids, _, seen = state.cache.open(TOKENS)
            return model.decoder(
                model.embedding(ids), mask=seen, positions=places + 2, cache=state.cache
            )

        expected = states()
        attach(model)
        torch.testing.assert_close(states(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", BUCKETS])
@pytest.mark.parametrize("width", [1, 3])
def test_another_device(positions, width):
    """One that computes nothing, but minds where tensors are."""
    model = tiny(positions=positions).to("meta")
    attach(model)
    state = model.start(2, width=width)
    tokens = TOKENS.repeat_interleave(width, dim=0).to("meta")
    for count in (2, 1, 1):
        logits = model.step(tokens.repeat(1, count), state)
        state.advance(torch.arange(2 * width, device="meta"))
        assert (logits.device.type, logits.shape) == ("meta", (2 * width, 50))
    assert state.cache.fused_ends
