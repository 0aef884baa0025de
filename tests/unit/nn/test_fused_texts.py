"""Whole texts by one call of C++: when it is taken, and the same states."""

import pytest
import torch

from regard.nn import kernels, native
from regard.nn.masks import Documents, Padding, Prefix, as_rule
from regard.nn.native.stack import attach
from regard.nn.packing import pack
from regard.nn.quantized import quantize

from ._fused import adapt, change_a_norm, change_in_place, exchange_data, made, tiny

LENGTHS = [20, 1, 0, 33, 7, 40, 3, 29, 0, 12, 40, 5, 0]
"""Of texts: of none as many tokens as there is room for together."""

PARTS = [
    {"layer.attention.num_kv_heads": 1},
    {"layer.attention.d_key": 6, "layer.attention.d_value": 10},
    {"layer.attention.scale": 0.3},
    {"layer.attention.bias": False, "layer.feed_forward.bias": False},
    {"layer.feed_forward.kind": "gated", "layer.feed_forward.activation": "silu"},
    {"layer.feed_forward.kind": "gated", "layer.feed_forward.activation": "relu"},
    {"layer.feed_forward.activation": "relu"},
    {"layer.feed_forward.activation": "gelu"},
    {"layer.feed_forward.activation": "gelu_tanh"},
    {"layer.norm.kind": "rmsnorm"},
    {"layer.norm_placement": "post"},
    {"positions": "sinusoidal"},
    {"positions": "grid"},
    {"positions": "none"},
]
"""Of which C++ knows each."""


@pytest.fixture(autouse=True)
def without_gradients():
    if not native.load():
        pytest.skip("there is no compiler here")
    with torch.no_grad():
        yield


@pytest.fixture(params=["learned", "rotary"])
def model(request):
    return tiny(positions=request.param, max_positions=1100)


def states_of(model, ids, mask=None, **more):
    """The decoder's states of whole texts, and whether one call made them."""
    rule = as_rule(mask)
    fused, found = model.decoder.fused, []
    if fused is not None:
        texts = fused.texts
        fused.texts = lambda *given: found.append(texts(*given)) or found[-1]
    states = model.decoder(model.embedding(ids), mask=rule, **more)
    if fused is not None:
        del fused.texts
    return states, bool(found) and found[-1] is not None


def of_lengths(lengths):
    """Tokens of texts, and which of them are real."""
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(50, real.shape), real


def near(one, other, how):
    """The same numbers; in int8 one may fall to the other side of a half."""
    error = (one - other).abs() / other.std()
    assert float(error.median()) < 1e-4
    assert float(error.max()) < (0.1 if how is quantize else 1e-3)


@pytest.mark.parametrize("how", [attach, pack])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 70), (300, 9), (1, 1024)])
@pytest.mark.parametrize("threads", [1, 2])
def test_of_any_number_and_length(model, how, batch, length, threads):
    ids = torch.randint(50, (batch, length))
    expected, by_one = states_of(model, ids)
    assert not by_one
    how(model)
    torch.set_num_threads(threads)
    states, by_one = states_of(model, ids)
    assert by_one
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", [attach, pack, quantize])
@pytest.mark.parametrize("lengths", [LENGTHS, [60, 2], [30, 30, 30], [1] * 70])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_of_large_weights_in_many_parts(how, lengths, threads):
    """Of 32 rows each, on few threads' own or on all of them one after the other."""
    model = tiny(num_layers=5, **{"layer.feed_forward.d_ff": 8192})
    ids, real = of_lengths(lengths)
    how(model)
    fused, model.decoder.fused = model.decoder.fused, None
    expected, _ = states_of(model, ids, real)
    model.decoder.fused = fused
    torch.set_num_threads(threads)
    states, by_one = states_of(model, ids, real)
    assert by_one
    assert not states[~real].any()
    near(states[real], expected[real], how)


@pytest.mark.parametrize("how", [attach, quantize])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_of_each_part_that_it_knows(how, parts):
    """In steps as in whole texts."""
    model = tiny(**parts)
    ids, real = of_lengths([9, 2, 5])
    how(model)
    states, by_one = states_of(model, ids, real)
    logits, by_one_step = made(model)
    assert by_one
    assert by_one_step
    model.decoder.fused = None
    near(states[real], states_of(model, ids, real)[0][real], how)
    near(logits, made(model)[0], how)


def test_a_grid_that_each_layer_has_goes_by_parts():
    model = tiny(positions={"kind": "grid", "every_layer": True})
    attach(model)
    assert model.decoder.fused is None


def test_a_compiler_that_reads_along_goes_by_parts(model):
    ids = torch.randint(50, (2, 5))
    expected, _ = states_of(model, ids)
    attach(model)
    made_by, texts = [], model.decoder.fused.texts
    model.decoder.fused.texts = lambda *given: made_by.append(texts(*given))
    compiled = torch.compile(model.decoder, backend="eager")
    states = compiled(model.embedding(ids), mask=as_rule(None))
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)
    assert made_by == [None]


@pytest.mark.parametrize("batch", [6, 600])
def test_padding_anywhere_is_left_out(model, batch):
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


def test_no_texts_and_no_tokens(model):
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
def test_other_masks_go_by_parts(model, rule):
    ids = torch.randint(50, (2, 5))
    expected, _ = states_of(model, ids, rule)
    attach(model)
    states, by_one = states_of(model, ids, rule)
    assert not by_one
    assert torch.equal(states, expected)


@pytest.mark.parametrize("change", [change_in_place, change_a_norm, exchange_data, adapt])
def test_changed_weights_are_noticed(model, change):
    ids = torch.randint(50, (2, 5))
    attach(model)
    before, _ = states_of(model, ids)
    change(model)
    states, by_one = states_of(model, ids)
    assert not by_one
    assert not torch.allclose(states, before, atol=1e-4)


def test_who_looks_on_sees_the_parts(model):
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


def test_masks_that_do_not_fit_are_refused(model):
    attach(model)
    made = model.decoder.fused._made
    states, real = torch.randn(2, 5, 16), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="mask does not fit"):
        made.read(states, real, True, None, None)
    with pytest.raises(RuntimeError, match="positions do not fit"):
        made.read(states, None, True, torch.ones(1, 1, 4, 2), torch.ones(1, 1, 4, 2))
    with pytest.raises(RuntimeError, match="states do not fit"):
        made.read(states[..., :8], None, True, None, None)
