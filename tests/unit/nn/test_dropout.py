"""Dropout: rates, scaling, repeatability, gradients, and the plain path."""

import pytest
import torch
import torch.utils.checkpoint

from regard.nn import dropout, native
from regard.nn.dropout import Dropout


@pytest.fixture(params=["C++", "cheap", "plain"], autouse=True)
def path(request, monkeypatch):
    """Every test runs by C++, by the cheap masks and by torch's own, which other machines take."""
    if request.param == "C++" and not native.load():
        pytest.skip("there is no compiler here")
    if request.param == "plain":
        monkeypatch.setattr(dropout, "_cheap", lambda states: False)
    return request.param


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
    assert Dropout(0.5)(torch.tensor(1.0)).item() in (0.0, 2.0)
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_added_to_a_residual(dtype):
    layer = Dropout(0.3)
    states = torch.randn(5, 33, dtype=dtype, requires_grad=True)
    residual = torch.randn(5, 33, dtype=dtype, requires_grad=True)
    up = torch.randn(5, 33, dtype=dtype)
    results = []
    for join in (layer.add, lambda a, b: a + layer(b)):
        torch.manual_seed(5)
        added = join(residual, states)
        results.append([added, *torch.autograd.grad(added, [states, residual], up)])
    rounding = 2 * torch.finfo(dtype).eps  # of the product, before it is added
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rounding, atol=4 * rounding)
    assert torch.equal(layer.eval().add(residual, states), residual + states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_scale_of_the_rounded_probability(path, dtype):
    kept = Dropout(1 - 1e-6)(torch.ones(1000, 1000, dtype=dtype))
    assert kept.isfinite().all()
    if path != "plain":
        assert kept.max().item() in (0.0, 65536.0)


def test_checkpointing_draws_the_same_mask_again():
    layer, states = Dropout(0.5), torch.ones(50, requires_grad=True)
    made = torch.utils.checkpoint.checkpoint(layer, states, use_reentrant=False)
    made.sum().backward()
    assert torch.equal(states.grad, made.detach())
