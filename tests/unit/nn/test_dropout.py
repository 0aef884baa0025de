"""Dropout: rates, scaling, repeatability, gradients, and the plain path."""

import pytest
import torch

from regard.nn.dropout import Dropout

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_rate_and_scale(dtype, p):
    torch.manual_seed(1)
    states = torch.ones(400, 1001, dtype=dtype)
    dropped = Dropout(p)(states)
    assert dropped.dtype == dtype
    zeros = (dropped == 0).double().mean().item()
    assert zeros == pytest.approx(p, abs=0.003)
    kept = dropped[dropped != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=0.005)


def test_no_lane_column_or_neighbor_is_favored():
    torch.manual_seed(2)
    kept = (Dropout(0.3)(torch.ones(20_000, 64)) != 0).double()
    assert (kept.mean(dim=0) - 0.7).abs().max() < 0.02
    for shift in (1, 2, 3, 4, 8):
        both = (kept[:, shift:] * kept[:, :-shift]).mean().item()
        assert both == pytest.approx(0.49, abs=0.005)


def test_the_default_generator_decides():
    layer, states = Dropout(0.4), torch.randn(3, 50)
    torch.manual_seed(3)
    first, second = layer(states), layer(states)
    torch.manual_seed(3)
    assert torch.equal(layer(states), first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    third = layer(states)
    torch.set_rng_state(state)
    assert torch.equal(layer(states), third)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_the_gradient_takes_the_same_mask(dtype, size):
    states = torch.ones(size, dtype=dtype, requires_grad=True)
    dropped = Dropout(0.5)(states)
    dropped.sum().backward()
    assert torch.equal(states.grad, dropped.detach())


def test_strided_and_empty_states():
    states = torch.ones(6, 8).t()
    assert Dropout(0.5)(states).shape == (8, 6)
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_nothing_happens_outside_training_or_at_zero():
    states = torch.randn(4, 4)
    assert Dropout(0.5).eval()(states) is states
    assert Dropout(0.0)(states) is states


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_impossible_probabilities(p):
    with pytest.raises(ValueError, match="probability"):
        Dropout(p)
