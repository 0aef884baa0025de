"""Norms, and where residuals put them, by numbers worked out by hand."""

import pytest
import torch
from torch import nn

from regard.errors import RecipeError
from regard.nn import NormSpec, Residual, make_norm


class Twice(nn.Module):
    """A sublayer with an easy answer, and an input of its own."""

    def forward(self, states, added=0.0):
        return 2 * states + added


def residual(placement, dropout=0.0):
    made = Residual(Twice(), 2, norm=NormSpec(eps=0.0), placement=placement, dropout=dropout)
    return made.double()


STATES = torch.tensor([[[0.0, 2.0]]], dtype=torch.float64)  # norm: [-1, 1]


def test_post_norm():
    """norm(x + 2x) = norm([0, 6]) = [-1, 1]; with 8 more at one place norm([8, 6]) = [1, -1]."""
    assert residual("post")(STATES).tolist() == [[[-1.0, 1.0]]]
    more = torch.tensor([8.0, 0.0], dtype=torch.float64)
    assert residual("post")(STATES, more).tolist() == [[[1.0, -1.0]]]


def test_pre_norm():
    """x + 2 norm(x) = [0, 2] + [-2, 2] = [-2, 4]."""
    assert residual("pre")(STATES).tolist() == [[[-2.0, 4.0]]]
    assert residual("pre")(STATES, 10.0).tolist() == [[[8.0, 14.0]]]


def test_dropout_falls_on_what_is_added():
    torch.manual_seed(0)
    states = torch.ones(1, 1000, 2, dtype=torch.float64) * STATES
    added = residual("pre", dropout=0.25)(states) - states  # ±2/0.75 or 0
    fallen = (added == 0).double().mean().item()
    assert fallen == pytest.approx(0.25, abs=0.04)
    kept = added[added != 0].abs()
    torch.testing.assert_close(kept, torch.full_like(kept, 2 / 0.75))


def test_layer_norm_is_the_formula():
    norm = make_norm(NormSpec(eps=0.1), 4).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    centered = x - x.mean(-1, keepdim=True)
    variance = centered.square().mean(-1, keepdim=True)
    truth = centered / (variance + 0.1).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), truth, rtol=0, atol=1e-12)


def test_layer_norm_starts_neutral_and_may_lack_the_shift():
    norm = make_norm(NormSpec(), 5)
    assert norm.weight.tolist() == [1.0] * 5
    assert norm.bias.tolist() == [0.0] * 5
    assert [name for name, _ in make_norm(NormSpec(bias=False), 5).named_parameters()] == ["weight"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_wide(dtype):
    """Squares of 300 overflow float16, and a mean in bfloat16 would be off by whole units."""
    norm = make_norm(NormSpec(), 512).to(dtype)
    x = (torch.randn(3, 512) + 300).to(dtype)
    truth = make_norm(NormSpec(), 512)(x.float())
    torch.testing.assert_close(norm(x).float(), truth, rtol=0.01, atol=0.01)


def test_rms_norm_is_the_formula_and_has_no_shift():
    norm = make_norm(NormSpec("rmsnorm", eps=0.1), 4).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    truth = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), truth, rtol=0, atol=1e-12)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    with pytest.raises(RecipeError, match="rmsnorm has no bias"):
        make_norm(NormSpec("rmsnorm", bias=True), 4)
