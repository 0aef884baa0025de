"""Linear maps: the formula, gradients, slices and initialization."""

import math

import pytest
import torch
from torch.nn import functional as F

from regard.nn import linear
from regard.nn.linear import Linear, SplitLinear


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_formula_with_its_gradients(dtype, bias):
    torch.manual_seed(0)
    layer = Linear(12, 7, bias=bias).to(dtype)
    if bias:
        torch.nn.init.normal_(layer.bias)
    states = torch.randn(3, 5, 12, dtype=dtype, requires_grad=True)
    up = torch.randn(3, 5, 7, dtype=dtype)
    leaves = [states, *layer.parameters()]
    made = layer(states)
    expected = F.linear(states, layer.weight, layer.bias)
    assert made.shape == (3, 5, 7)
    assert made.dtype == dtype
    torch.testing.assert_close(made, expected)
    for ours, theirs in zip(
        torch.autograd.grad(made, leaves, up),
        torch.autograd.grad(expected, leaves, up),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_gradcheck():
    layer = Linear(4, 3).double()
    split = SplitLinear(4, {"a": 2, "b": 3}).double()
    states = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (states, *layer.parameters()))
    assert torch.autograd.gradcheck(lambda x, *_: split(x), (states, *split.parameters()))


def test_glorot_uniform_and_zero_bias():
    layer = Linear(300, 200)
    bound = math.sqrt(6 / 500)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.detach().std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()


def test_split_linear_draws_each_slice_by_its_own_width():
    split = SplitLinear(300, {"narrow": 10, "wide": 600})
    for name, width in split.widths.items():
        weight, bias = split.slice(name)
        assert weight.shape == (width, 300)
        assert weight.abs().max() <= math.sqrt(6 / (300 + width))
        assert weight.std() == pytest.approx(math.sqrt(2 / (300 + width)), rel=0.05)
        assert not bias.any()


def test_split_linear_equals_its_slices():
    split = SplitLinear(6, {"queries": 4, "keys": 2, "values": 3})
    torch.nn.init.normal_(split.bias)
    states = torch.randn(2, 5, 6)
    made = split(states)
    assert [x.shape[-1] for x in made] == [4, 2, 3]
    for name, part in zip(split.widths, made, strict=True):
        torch.testing.assert_close(part, F.linear(states, *split.slice(name)))


def test_slices_are_views():
    split = SplitLinear(6, {"keys": 2, "values": 3}, bias=False)
    weight, bias = split.slice("values")
    assert bias is None
    weight.fill_(7.0)
    assert (split.weight[2:] == 7.0).all()
    assert not (split.weight[:2] == 7.0).any()
    with pytest.raises(KeyError, match="queries"):
        split.slice("queries")


def test_names_in_a_checkpoint():
    assert list(Linear(2, 3).state_dict()) == ["weight", "bias"]
    assert list(SplitLinear(2, {"a": 1}).state_dict()) == ["weight", "bias"]
    assert "a=1" in repr(SplitLinear(2, {"a": 1}))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (1, 1, 5), (5,)])
def test_gradients_that_are_columns_already_are_not_copied(shape):
    split = SplitLinear(5, {"a": 2, "b": 3, "c": 1})
    states = torch.randn(*shape, requires_grad=True)
    up = torch.randn(*shape[:-1], 6)
    leaves = [states, *split.parameters()]
    joint = F.linear(states, split.weight, split.bias)
    expected = torch.autograd.grad(joint, leaves, up)
    columns = torch.split(up, [2, 3, 1], dim=-1)
    apart = [column.clone() for column in columns]
    crossed = [columns[0], up[..., 1:4], columns[2]]
    of_others = [column.clone() for column in (up, -up, 2 * up)]
    alike = [one[..., a:b] for one, a, b in zip(of_others, (0, 2, 5), (2, 5, 6), strict=True)]
    assert torch.equal(linear.joined(columns), up)
    assert linear.joined(columns).data_ptr() == up.data_ptr()
    for parts in (apart, crossed, alike, columns[1:]):
        assert torch.equal(linear.joined(parts), torch.cat([*parts], -1))
    for gradients in (columns, apart):
        made = torch.autograd.grad(split(states), leaves, gradients)
        for ours, theirs in zip(made, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
