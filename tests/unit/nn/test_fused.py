"""A stack's step by one call of C++: when it is taken, and never with other weights."""

import copy
import pickle

import pytest
import torch

from regard.decoding import DecodingSpec, search
from regard.errors import InputError
from regard.models import GPT, GPTConfig
from regard.models.t5 import T5, T5Config
from regard.models.transformer import Transformer, TransformerConfig
from regard.nn import kernels, native
from regard.nn.adapters import LoRA, add_adapters
from regard.nn.attention import Attention
from regard.nn.cache import CopyCache
from regard.nn.masks import Causal, Documents, Full, Padding, Prefix, as_rule
from regard.nn.native.stack import attach
from regard.nn.packing import pack, packed
from regard.nn.quantized import quantize
from regard.nn.stack import Memory


@pytest.fixture(autouse=True)
def without_gradients():
    if not native.load():
        pytest.skip("there is no compiler here")
    with torch.no_grad():
        yield


def tiny(**more):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, **more}
    return GPT(GPTConfig.preset("nano-cpu", vocab_size=50, overrides=sizes)).eval()


TOKENS = torch.tensor([[3], [4]])


def made(model):
    """The logits of a step, and whether one call made it."""
    state = model.start(len(TOKENS))
    logits = model.step(TOKENS, state)
    return logits, bool(state.cache.fused)


def change_in_place(model):
    model.decoder.layers[0].feed_forward.sublayer.expand.weight.mul_(3)


def change_a_norm(model):
    model.decoder.layers[1].self_attention.norm.weight.mul_(3)


def exchange_a_weight(model):
    old = model.decoder.layers[0].feed_forward.sublayer.expand
    old.weight = torch.nn.Parameter(old.weight * 3)


def exchange_data(model):
    old = model.decoder.layers[1].feed_forward.norm
    old.weight.data = old.weight.data * 3


def exchange_a_module(model):
    other = tiny()
    for parameter in other.parameters():
        parameter.mul_(3)
    model.decoder.layers[1].feed_forward = other.decoder.layers[1].feed_forward


def load_other_weights(model):
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})


def adapt(model):
    add_adapters(model, LoRA, LoRA.Options(rank=2))
    for name, parameter in model.named_parameters():
        if "adapters" in name:
            parameter.normal_()


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
        model = tiny()
        how(model)
        before, _ = made(model)
        change(model)
        logits, by_one = made(model)
        assert not by_one
        assert not torch.allclose(logits, before, atol=1e-4)
        torch.testing.assert_close(logits, model(TOKENS)[:, -1], rtol=1e-4, atol=1e-5)

    def test_a_copy_has_none_and_says_the_same(self, how):
        model = tiny()
        how(model)
        expected, _ = made(model)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            logits, by_one = made(other)
            assert not by_one
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


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
        model = tiny()
        how(model)
        before, _ = made(model)
        change(model)
        logits, _ = made(model)
        assert not torch.allclose(logits, before, atol=1e-4)
        torch.testing.assert_close(logits, model(TOKENS)[:, -1], rtol=1e-4, atol=1e-5)

    def test_hooks_are_called(self):
        for find in (lambda m: m.embedding, lambda m: m.head, lambda m: m.decoder):
            model, seen = tiny(), []
            find(model).register_forward_hook(lambda *_, seen=seen: seen.append(1))
            attach(model)
            made(model)
            assert seen

    def test_wrong_tokens_are_said(self):
        model = tiny()
        attach(model)
        for token in (50, -1):
            with pytest.raises(IndexError, match=str(token)):
                model.step(torch.tensor([[token], [0]]), model.start(2))


BUCKETS = {"kind": "buckets", "num_buckets": 8, "max_distance": 12}


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


def states_of(model, ids, mask=None, **more):
    """The decoder's states of whole texts, and whether one call made them."""
    rule = as_rule(mask)
    fused, made = model.decoder.fused, []
    if fused is not None:
        read = fused._read
        fused._read = lambda *given: made.append(read(*given)) or made[-1]
    states = model.decoder(model.embedding(ids), mask=rule, **more)
    if fused is not None:
        del fused._read
    return states, bool(made) and made[-1] is not None


class TestTexts:
    """Whole texts, which nothing is remembered of."""

    @pytest.fixture(params=["learned", "rotary"])
    def model(self, request):
        return tiny(positions=request.param, max_positions=1100)

    @pytest.mark.parametrize("how", [attach, pack])
    @pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 70), (300, 9), (1, 1024)])
    def test_of_any_number_and_length(self, model, how, batch, length):
        ids = torch.randint(50, (batch, length))
        expected, by_one = states_of(model, ids)
        assert not by_one
        how(model)
        for threads in (1, 2):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            states, by_one = states_of(model, ids)
            torch.set_num_threads(before)
            assert by_one
            torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("batch", [6, 600])
    def test_padding_anywhere_is_left_out(self, model, batch):
        ids, real = torch.randint(50, (batch, 12)), torch.rand(batch, 12) < 0.6
        real[:3] = torch.tensor([[False] * 12, [True] * 12, [False] * 4 + [True] * 8])
        places = (real.cumsum(1) - 1).clamp_min(0)
        attach(model)
        states, by_one = states_of(model, ids, real, positions=places)
        assert by_one
        assert not states[~real].any()
        for row in (1, 2, 4, 5, batch - 1):
            alone, _ = states_of(model, ids[row][real[row]][None])
            torch.testing.assert_close(states[row][real[row]], alone[0], rtol=1e-4, atol=1e-5)

    def test_no_texts_and_no_tokens(self, model):
        attach(model)
        for shape in ((0, 5), (2, 0)):
            ids = torch.empty(*shape, dtype=torch.long)
            assert states_of(model, ids)[0].shape == (*shape, 16)
        nothing = torch.zeros(2, 5, dtype=torch.bool)
        states, by_one = states_of(model, torch.randint(50, (2, 5)), nothing)
        assert by_one
        assert not states.any()

    @pytest.mark.parametrize(
        "rule",
        [
            Prefix(torch.tensor([2, 3])),
            Documents(torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]])),
            Padding(torch.ones(1, 5, dtype=torch.bool)),  # one row for all
        ],
    )
    def test_other_masks_go_by_parts(self, model, rule):
        ids = torch.randint(50, (2, 5))
        expected, _ = states_of(model, ids, rule)
        attach(model)
        states, by_one = states_of(model, ids, rule)
        assert not by_one
        assert torch.equal(states, expected)

    @pytest.mark.parametrize("change", [change_in_place, change_a_norm, exchange_data, adapt])
    def test_changed_weights_are_noticed(self, model, change):
        ids = torch.randint(50, (2, 5))
        attach(model)
        before, _ = states_of(model, ids)
        change(model)
        states, by_one = states_of(model, ids)
        assert not by_one
        assert not torch.allclose(states, before, atol=1e-4)

    def test_who_looks_on_sees_the_parts(self, model):
        ids = torch.randint(50, (2, 5))
        attach(model)
        assert states_of(model, ids)[1]
        assert not states_of(model, torch.randint(50, (1, 1025)))[1]  # longer than `short` serves
        with kernels.use("dense"):
            assert not states_of(model, ids)[1]
        with kernels.watch(lambda *_: None):
            assert not states_of(model, ids)[1]
        with torch.enable_grad():
            assert not states_of(model, ids)[1]
        assert not states_of(model.train(), ids)[1]
        seen = []
        model.eval().decoder.layers[1].register_forward_hook(lambda *_: seen.append(1))
        assert not states_of(model, ids)[1]
        assert seen

    def test_masks_that_do_not_fit_are_refused(self, model):
        attach(model)
        made = model.decoder.fused._made
        states, real = torch.randn(2, 5, 16), torch.ones(2, 4, dtype=torch.bool)
        with pytest.raises(RuntimeError, match="mask does not fit"):
            made.read(states, real, True, None, None)
        with pytest.raises(RuntimeError, match="positions do not fit"):
            made.read(states, None, True, torch.ones(1, 1, 4, 2), torch.ones(1, 1, 4, 2))
        with pytest.raises(RuntimeError, match="states do not fit"):
            made.read(states[..., :8], None, True, None, None)


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
        "change", [sharpen, another_eps, another_scale, wrap, another_placement]
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

    def test_a_memory_whose_keys_the_cache_lacks(self):
        torch.manual_seed(0)
        model = Transformer(TransformerConfig.preset("tiny", vocab_size=50)).eval()
        memory = Memory(torch.randn(2, 7, 128), Full())

        def states():
            cache = CopyCache(len(model.decoder.layers), 2, 1)
            ids, positions, seen = cache.open(TOKENS)
            given = model.target_embedding(ids)
            return model.decoder(given, mask=seen, memory=memory, positions=positions, cache=cache)

        expected = states()
        attach(model)
        torch.testing.assert_close(states(), expected)

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
