"""Rotary positions by numbers worked out by hand, and Llama 3's scaling by its definition."""

import math

import pytest
import torch

from regard.errors import RecipeError
from regard.nn.positions.rotary import Rotary, RotaryOptions, rates
from regard.nn.positions.scheme import SchemeSize


def turned(heads, at, **options):
    scheme = Rotary(SchemeSize(8, heads.shape[-1], 1, 64), RotaryOptions(**options))
    return scheme.turn(heads, scheme.prepare(torch.tensor([[at]]), heads.dtype))


@pytest.mark.parametrize(("layout", "pair"), [("halves", (0, 2)), ("interleaved", (0, 1))])
def test_a_pair_is_turned_by_its_angle(layout, pair):
    heads = torch.zeros(1, 1, 1, 4, dtype=torch.float64)
    heads[..., pair[0]], heads[..., pair[1]] = 3.0, 4.0
    found = turned(heads, 2, layout=layout)[0, 0, 0]
    assert found[pair[0]].item() == pytest.approx(3 * math.cos(2) - 4 * math.sin(2))
    assert found[pair[1]].item() == pytest.approx(4 * math.cos(2) + 3 * math.sin(2))
    assert found.norm().item() == pytest.approx(5)


def test_the_second_pair_turns_slower():
    heads = torch.zeros(1, 1, 1, 4, dtype=torch.float64)
    heads[..., 1] = 1.0
    assert turned(heads, 3, base=100.0)[0, 0, 0, 1].item() == pytest.approx(math.cos(0.3))
    half = turned(heads, 3, base=100.0, scaling="linear", factor=2.0)[0, 0, 0, 1]
    assert half.item() == pytest.approx(math.cos(0.15))


def test_llama_3s_scaling():
    """Long waves over the factor, short ones as they are, and a straight line between."""
    options = RotaryOptions(base=500_000.0, scaling="llama3", original_max_positions=8192)
    plain = rates(128, RotaryOptions(base=500_000.0))
    for rate, scaled in zip(plain, rates(128, options), strict=True):
        wave = 2 * math.pi / rate
        if wave < 8192 / 4:
            assert scaled == rate
        elif wave > 8192:
            assert scaled == pytest.approx(rate / 8)
        else:
            smooth = (8192 / wave - 1) / 3
            assert scaled == pytest.approx((1 - smooth) * rate / 8 + smooth * rate)
    kept = [scaled / rate for rate, scaled in zip(plain, rates(128, options), strict=True)]
    assert (kept[0], kept[-1]) == (1.0, 0.125)
    assert any(0.2 < share < 0.9 for share in kept)


def test_low_precision_heads_are_turned_in_float32():
    heads = torch.randn(1, 2, 1, 8).bfloat16()
    found = turned(heads, 9)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, turned(heads.float(), 9).bfloat16(), rtol=0, atol=0)


def test_odd_heads_are_refused():
    with pytest.raises(RecipeError, match="d_key = 5 is odd"):
        Rotary(SchemeSize(8, 5, 1, 64), RotaryOptions())
