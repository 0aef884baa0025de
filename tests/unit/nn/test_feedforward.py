"""Feed-forward networks: the formula and the activations."""

import math

import pytest
import torch

from regard import registry
from regard.errors import RegardError
from regard.nn import FeedForward, FeedForwardSpec

POINTS = [-3.0, -1.0, -0.1, 0.0, 0.5, 2.0]


def cumulative(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


FORMULAS = {
    "relu": lambda x: max(0.0, x),
    "gelu": lambda x: x * cumulative(x),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations(name):
    made = registry.kind("activations", name)(torch.tensor(POINTS, dtype=torch.float64))
    assert made.tolist() == pytest.approx([FORMULAS[name](x) for x in POINTS], abs=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_two_linear_maps_and_an_activation(name, bias):
    spec = FeedForwardSpec(d_ff=7, activation=name, bias=bias)
    module, x = FeedForward(spec, 4).double(), torch.randn(2, 3, 4, dtype=torch.float64)
    if bias:
        torch.nn.init.normal_(module.expand.bias)
        torch.nn.init.normal_(module.contract.bias)
    hidden = x @ module.expand.weight.T + (module.expand.bias if bias else 0.0)
    hidden = hidden.detach().clone().apply_(FORMULAS[name])
    truth = hidden @ module.contract.weight.T + (module.contract.bias if bias else 0.0)
    made = module(x)
    assert made.shape == (2, 3, 4)
    torch.testing.assert_close(made, truth, rtol=0, atol=1e-12)


def test_the_gated_form():
    module = registry.kind("feed_forwards", "gated")(
        FeedForwardSpec("gated", d_ff=5, activation="silu"), 4
    ).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    (gate, gate_bias), (up, up_bias) = module.expand.slice("gate"), module.expand.slice("up")
    gated = x @ gate.T + gate_bias
    hidden = gated * torch.sigmoid(gated) * (x @ up.T + up_bias)
    truth = hidden @ module.contract.weight.T + module.contract.bias
    torch.testing.assert_close(module(x), truth, rtol=0, atol=1e-12)
    assert module.expand.weight.shape == (10, 4)


def test_each_position_by_itself():
    module, x = FeedForward(FeedForwardSpec(d_ff=5), 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(module(x)[:, 1:2], module(x[:, 1:2]))


def test_dropout_falls_on_hidden_states():
    module = FeedForward(FeedForwardSpec(d_ff=500, dropout=0.4), 3)
    seen = []
    module.contract.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(torch.ones(1, 1, 3))
    module.eval()(torch.ones(1, 1, 3))
    dropped, whole = seen
    fallen = (dropped == 0) & (whole > 0)
    assert (fallen.sum() / (whole > 0).sum()).item() == pytest.approx(0.4, abs=0.1)
    torch.testing.assert_close(dropped[~fallen], whole[~fallen] / 0.6)


def test_an_unknown_activation_suggests_the_nearest():
    with pytest.raises(RegardError, match="gelu_tanh"):
        FeedForward(FeedForwardSpec(activation="gelu_tan"), 4)
