"""Shaw's relative positions and ALiBi against their papers' formulas."""

import math
from dataclasses import replace

import pytest
import torch

from regard.nn import (
    Attention,
    AttentionContext,
    AttentionSpec,
    Causal,
    Full,
    Padding,
    kernels,
    prepare,
)
from regard.nn.positions.alibi import Alibi, slopes
from regard.nn.positions.scheme import NoOptions, SchemeSize
from regard.nn.positions.shaw import DistanceKeys, DistanceValues, Shaw, ShawOptions

CPU = torch.device("cpu")
D, T = 12, 7
SPEC = AttentionSpec(num_heads=4, num_kv_heads=2, d_key=3, d_value=5)
PLACES = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 9, 3, 4, 1, 2, 30]])


def shaw(**options):
    """An attention with tables, and what it is told about positions."""
    scheme = Shaw(SchemeSize(D, 3, 4, 32), ShawOptions(**options))
    return Attention(SPEC, D, positions=scheme).double(), scheme


def context(scheme, rule):
    form = prepare(rule, T, T, device=CPU)
    return AttentionContext(form, scheme, relation=scheme.relate(PLACES, PLACES))


def naive(module, states, rule, clip, kept=1.0):
    """Equations 1 to 4, with a vector for each pair of tokens: [B, T, T, d].

    ``kept`` [B, H, T, T] is what dropout multiplies the weights with.
    """
    parts = zip(module.qkv(states), (4, 2, 2), strict=True)
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x, heads in parts)
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    rows = (PLACES[:, None, :] - PLACES[:, :, None]).clamp(-clip, clip) + clip
    by_key = module.distance_keys.weight[rows]
    summed = key[:, :, None] + by_key[:, None]  # [B, H, T, T, d_key]
    scores = (query[:, :, :, None] * summed).sum(-1) / math.sqrt(module.d_key)
    slots = torch.arange(T)
    weights = scores.masked_fill(~rule.allows(slots, slots), -math.inf).softmax(-1) * kept
    values = value[:, :, None].expand(-1, -1, T, -1, -1)
    if module.distance_values is not None:
        values = values + module.distance_values.weight[rows][:, None]
    mixed = (weights[..., None] * values).sum(-2)  # [B, H, T, d_value]
    return module.output(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("rule", [Full(), Causal(), Padding(torch.arange(T).expand(2, -1) < 5)])
@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("clip", [1, 3, 50])
def test_shaw_is_its_formula_and_so_are_its_gradients(clip, values, rule):
    module, scheme = shaw(clip=clip, values=values)
    states = torch.randn(2, T, D, dtype=torch.float64, requires_grad=True)
    wanted = [states, *module.parameters()]
    made = module(states, context(scheme, rule))
    truth = naive(module, states, rule, clip)
    torch.testing.assert_close(made, truth, rtol=0, atol=1e-12)
    weight = torch.randn_like(made)
    for ours, theirs in zip(
        *(torch.autograd.grad((x * weight).sum(), wanted) for x in (made, truth)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("values", [True, False])
def test_no_tensor_has_a_vector_for_each_pair(values):
    """Nothing that autograd keeps is larger than the weights [2, T, T]: [T, T, 3] would be."""
    scheme = Shaw(SchemeSize(D, 3, 2, 32), ShawOptions(values=values))
    spec = AttentionSpec(num_heads=2, d_key=3, d_value=5)
    module = Attention(spec, D, positions=scheme).double()
    length, sizes = 64, []
    places = torch.arange(length)[None]
    form = prepare(Full(), length, length, device=CPU)
    seen = AttentionContext(form, scheme, relation=scheme.relate(places, places))

    def keep(tensor):
        sizes.append(tensor.untyped_storage().nbytes() // tensor.itemsize)
        return tensor

    states = torch.randn(1, length, D, dtype=torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        module(states, seen)
    assert max(sizes) == 2 * length**2


def test_tables_are_shared_by_heads_and_sized_by_the_clip():
    module, _ = shaw(clip=4)
    assert module.distance_keys.weight.shape == (9, 3)
    assert module.distance_values.weight.shape == (9, 5)
    assert shaw(values=False)[0].distance_values is None


def test_many_far_keys_add_up_in_low_precision():
    """A thousand small weights fall on one distance: bfloat16 would stop at a fraction of them."""
    length = 1024
    weights = torch.full((1, 1, 1, length), 1 / length, dtype=torch.bfloat16)
    table = DistanceValues(3, 2).bfloat16()
    torch.nn.init.ones_(table.weight)
    relation = torch.zeros(1, 1, 1, length, dtype=torch.int64)
    assert table(weights, relation).float().tolist() == [[[[1.0, 1.0]]]]
    keys = DistanceKeys(3, 2).bfloat16()
    query = torch.ones(1, 1, 1, 2, dtype=torch.bfloat16, requires_grad=True)
    (keys(query, relation) / length).sum().backward()
    torch.testing.assert_close(query.grad[0, 0, 0], keys.weight[0])


def test_slopes_of_a_power_of_two():
    """Section 3: for 8 heads 1/2, 1/4 … 1/256; for 16 also those between."""
    assert slopes(8) == [2.0**-n for n in range(1, 9)]
    assert slopes(16) == pytest.approx([2 ** (-n / 2) for n in range(1, 17)], rel=1e-12)
    assert slopes(1) == [2.0**-8]


def test_slopes_of_other_numbers_are_as_the_authors_code_has_them():
    """Worked out by `get_slopes` of github.com/ofirpress/attention_with_linear_biases."""

    def get_slopes(n):
        def power_of_2(n):
            start = 2 ** (-(2 ** -(math.log2(n) - 3)))
            return [start * start**i for i in range(n)]

        if math.log2(n).is_integer():
            return power_of_2(n)
        closest = 2 ** math.floor(math.log2(n))
        return power_of_2(closest) + get_slopes(2 * closest)[0::2][: n - closest]

    for heads in range(1, 40):
        assert slopes(heads) == pytest.approx(get_slopes(heads), rel=1e-12)
    assert slopes(12)[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_alibi_counts_the_distance_to_both_sides():
    scheme = Alibi(SchemeSize(D, 3, 2, 32), NoOptions())
    bias = scheme.bias(torch.tensor([[0, 2], [5, 5]]), torch.tensor([[0, 1, 4]]))
    distances = torch.tensor([[[0, 1, 4], [2, 1, 2]], [[5, 4, 1], [5, 4, 1]]])
    truth = torch.stack([distances / -(2.0**4), distances / -(2.0**8)], dim=1)
    torch.testing.assert_close(bias, truth, rtol=0, atol=0)


@pytest.mark.parametrize("values", [True, False])
def test_watched_and_silenced_heads(values):
    """The weights are shown, nothing changes, and a silent head is silent in both terms."""
    module, scheme = shaw(clip=2, values=values)
    states, seen = torch.randn(2, T, D, dtype=torch.float64), context(scheme, Causal())
    plain, shown = module(states, seen), []
    with kernels.watch(lambda _, weights: shown.append(weights)):
        torch.testing.assert_close(module(states, seen), plain, rtol=0, atol=1e-12)
    assert shown[0].shape == (2, 4, T, T)
    torch.testing.assert_close(shown[0].sum(-1), torch.ones(2, 4, T, dtype=torch.float64))
    with kernels.switch_off(module, [0, 1, 2, 3]):
        torch.testing.assert_close(module(states, seen), module.output.bias.expand(2, T, D))


def test_dropout_falls_on_the_weights_of_both_terms(monkeypatch):
    scheme = Shaw(SchemeSize(D, 3, 4, 32), ShawOptions(clip=2))
    module = Attention(replace(SPEC, dropout=0.25), D, positions=scheme).double()
    states, seen = torch.randn(2, T, D, dtype=torch.float64), context(scheme, Full())
    assert not torch.equal(module(states, seen), module(states, seen))
    kept = (torch.rand(2, 4, T, T) < 0.75) / 0.75
    monkeypatch.setattr(kernels, "drop", lambda weights, p: weights * kept if p == 0.25 else None)
    truth = naive(module, states, Full(), 2, kept)
    torch.testing.assert_close(module(states, seen), truth, rtol=0, atol=1e-12)
    module.eval()
    truth = naive(module, states, Full(), 2)
    torch.testing.assert_close(module(states, seen), truth, rtol=0, atol=1e-12)
