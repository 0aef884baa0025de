"""A step of decoding by one call of C++: when it is taken, and never with other weights."""

import copy
import pickle

import pytest
import torch

from regard.nn import kernels
from regard.nn.attention import Attention
from regard.nn.cache import CACHES, CopyCache
from regard.nn.masks import Causal, Full
from regard.nn.native.stack import attach
from regard.nn.packing import pack, packed
from regard.nn.quantized import quantize
from regard.nn.stack import Memory

from ._fused import (
    TOKENS,
    adapt,
    change_a_norm,
    change_in_place,
    exchange_a_module,
    exchange_a_weight,
    exchange_data,
    load_other_weights,
    made,
    noticed,
    tiny,
    translator,
)

pytestmark = pytest.mark.usefixtures("in_cpp")


@pytest.mark.parametrize("how", [attach, pack])
class TestWeights:
    def test_it_serves(self, how):
        model = tiny()
        expected, by_one = made(model)
        assert not by_one
        how(model)
        logits, by_one = made(model)
        assert by_one
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "change",
        [
            change_in_place,
            change_a_norm,
            exchange_a_weight,
            exchange_data,
            exchange_a_module,
            load_other_weights,
            adapt,
        ],
    )
    def test_changed_ones_are_noticed(self, how, change):
        assert not noticed(how, change)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_other_dtypes_go_by_few_calls(self, how, dtype):
        model = tiny().to(dtype)
        expected, _ = made(model)
        how(model)
        logits, by_one = made(model)
        assert by_one
        assert logits.dtype == dtype
        torch.testing.assert_close(logits, expected)

    @pytest.mark.parametrize(
        "find",
        [
            lambda decoder: decoder.layers[1].feed_forward.sublayer,
            lambda decoder: decoder.norm,
            lambda decoder: decoder.positions,
        ],
    )
    def test_weights_of_several_dtypes_go_by_parts(self, how, find):
        model = tiny()
        find(model.decoder).double()
        how(model)
        assert model.decoder.fused is None

    def test_nobody_casts(self, how):
        model = tiny()
        how(model)
        with torch.autocast("cpu", torch.bfloat16):
            assert not made(model)[1]

    def test_a_copy_has_none_and_says_the_same(self, how):
        model = tiny()
        how(model)
        expected, _ = made(model)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            logits, by_one = made(other)
            assert not by_one
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


class Sharp(Attention):
    def _attend(self, query, *others):
        return super()._attend(query * 5, *others)


class Wrapped(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *states):
        return 2 * self.module(*states)


def sharpen(model):
    model.decoder.layers[1].self_attention.sublayer.__class__ = Sharp


def another_eps(model):
    model.decoder.layers[1].self_attention.norm.eps = 1.0


def another_last_eps(model):
    model.decoder.norm.eps = 1.0


def another_scale(model):
    model.decoder.layers[1].self_attention.sublayer.scale = 3.0


def another_placement(model):
    model.decoder.layers[1].feed_forward.placement = "post"


def wrap(model):
    own = model.decoder.layers[0].self_attention.sublayer
    own.output = Wrapped(own.output)


class TestWhen:
    @pytest.mark.parametrize("made_of", [tiny, lambda: tiny().train()])
    def test_int8_models_are_ready(self, made_of):
        model = made_of()
        quantize(model)
        assert made(model)[1]

    def test_hooks_forced_kernels_pictures_and_training_go_by_parts(self):
        model = tiny()
        attach(model)
        seen = []
        handle = model.decoder.layers[0].register_forward_hook(lambda *_: seen.append(1))
        assert not made(model)[1]
        assert seen
        handle.remove()
        assert made(model)[1]
        with kernels.use("dense"):
            assert not made(model)[1]
        with kernels.watch(lambda *_: None):
            assert not made(model)[1]
        assert not made(model.train())[1]
        model.eval()
        with torch.enable_grad():
            assert not made(model)[1]
        assert not made(model.double())[1]

    def test_a_hook_before_a_layer_counts_too(self):
        model = tiny()
        attach(model)
        model.decoder.layers[1].register_forward_pre_hook(lambda *_: None)
        assert not made(model)[1]

    def test_a_compiler_that_reads_along_goes_by_parts(self):
        model = tiny()
        attach(model)
        state = model.start(2)
        torch.compile(model.step, backend="eager")(TOKENS, state)
        assert state.cache.fused is None

    def test_a_model_in_training_waits_until_it_is_not(self):
        model = tiny().train()
        attach(model)
        assert not made(model)[1]
        assert made(model.eval())[1]

    @pytest.mark.parametrize(
        "change",
        [sharpen, another_eps, another_last_eps, another_scale, wrap, another_placement],
    )
    def test_layers_that_are_not_alike_go_by_parts(self, change):
        model = tiny()
        change(model)
        expected, _ = made(model)
        attach(model)
        logits, by_one = made(model)
        assert not by_one
        assert torch.equal(logits, expected)
        model = tiny()
        attach(model)
        change(model)
        logits, by_one = made(model)
        assert not by_one
        assert torch.equal(logits, expected)

    def test_rows_that_are_not_the_cache_s_are_refused(self):
        model = tiny()
        attach(model)
        for rows in (1, 4, 4000):
            state = model.start(2)
            model.step(TOKENS, state)
            with pytest.raises(RuntimeError, match="cache does not fit"):
                model.step(torch.full((rows, 1), 3), state)

    def test_packing_for_a_while_leaves_nothing(self):
        model = tiny()
        with packed(model):
            assert made(model)[1]
        assert model.decoder.fused is None

    def test_nothing_to_do(self):
        model = tiny()
        attach(model)
        state = model.start(2)
        assert model.decoder(
            torch.empty(2, 0, 16), mask=Causal(), positions=torch.empty(1, 0, dtype=torch.long),
            cache=state.cache,
        ).shape == (2, 0, 16)  # fmt: skip
        for how in (pack, quantize):
            how(model)
            assert model(torch.empty(0, 5, dtype=torch.long)).shape == (0, 5, 50)

    @pytest.mark.parametrize("name", CACHES)
    @pytest.mark.parametrize(
        ("own", "of_memory"),
        [
            (torch.float16, None),
            (torch.float64, None),
            (None, torch.bfloat16),
            (torch.bfloat16, torch.float32),
        ],
    )
    def test_a_cache_of_another_dtype_is_not_for_cpp(self, name, own, of_memory, in_cpp):
        model = translator()
        source = torch.randint(50, (2, 7))
        expected = model.step(TOKENS, model.start(source, cache=name))
        attach(model)
        model.decoder.cache_dtype = own
        state = model.start(source, cache=name)
        for layer in state.cache.layers if of_memory else ():
            layer.memory = tuple(part.to(of_memory) for part in layer.memory)
        logits = model.step(TOKENS, state)
        assert state.cache.fused != in_cpp
        torch.testing.assert_close(logits, expected, rtol=0.02, atol=0.02)

    @pytest.mark.parametrize("name", CACHES)
    def test_a_cache_in_bfloat16_is_read_as_it_is(self, name):
        model = translator()
        model.decoder.cache_dtype = torch.bfloat16
        source = torch.randint(50, (2, 7))
        expected = model.step(TOKENS, model.start(source, cache=name))
        attach(model)
        state = model.start(source, cache=name)
        logits = model.step(TOKENS, state)  # some numbers are rounded to the other side
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-3)
        assert state.cache.fused
        assert {part.dtype for layer in state.cache.layers for part in layer.memory} == {
            torch.bfloat16
        }

    def test_a_memory_whose_keys_the_cache_lacks(self):
        model = translator()
        memory = Memory(torch.randn(2, 7, 128), Full())

        def states():
            cache = CopyCache(len(model.decoder.layers), 2, 1)
            ids, positions, seen = cache.open(TOKENS)
            given = model.target_embedding(ids)
            return model.decoder(given, mask=seen, memory=memory, positions=positions, cache=cache)

        expected = states()
        attach(model)
        torch.testing.assert_close(states(), expected)

    def test_a_copy_in_int8_remembers_as_coarsely(self):
        model = tiny()
        quantize(model)
        expected, by_one = made(model)
        assert by_one
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            state = other.start(len(TOKENS))
            torch.testing.assert_close(other.step(TOKENS, state), expected, rtol=1e-4, atol=1e-5)
            assert state.cache.layers[0]._buffers[0].dtype == torch.bfloat16

    def test_int8_takes_no_other_weights(self):
        model, other = tiny(), tiny()
        quantize(model)
        quantize(other)
        with pytest.raises(RuntimeError, match="takes no other weights"):
            other.load_state_dict(tiny().state_dict())
        assert made(copy.deepcopy(model))[0].isfinite().all()

    def test_int8_is_neither_saved_nor_turned_into_another_format(self):
        model = tiny()
        quantize(model)
        with pytest.raises(RuntimeError, match="before it is quantized"):
            model.state_dict()
        for turned in (model.bfloat16, model.double):
            with pytest.raises(RuntimeError, match="float32 between its products"):
                turned()
