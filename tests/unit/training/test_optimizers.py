from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from regard import registry
from regard.models.transformer import Transformer, TransformerConfig
from regard.training.optimizers import (
    layer_scales,
    lookup_tables,
    make_optimizer,
    not_decayed,
    set_rate,
    state_size,
)
from regard.training.settings import OptimizerSettings

from .toy import toy_model


def test_matrices_alone_are_decayed() -> None:
    kept = not_decayed(toy_model())
    assert kept == {
        "embedding.weight",
        *(
            f"layers.{i}.{part}"
            for i in range(2)
            for part in ("linear.bias", "norm.weight", "norm.bias")
        ),
    }


def test_every_embedding_of_a_family_is_one() -> None:
    config = TransformerConfig.preset("tiny", vocab_size=9, overrides={"positions": "learned"})
    assert lookup_tables(Transformer(config)) == {
        "source_embedding.weight",
        "encoder.positions.weight",
        "decoder.positions.weight",
    }


def test_decay_takes_its_share_of_a_matrix_only() -> None:
    model = toy_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = OptimizerSettings("adamw", weight_decay=0.5)
    optimizer = make_optimizer(settings, model, dict(model.named_parameters()), 1.0)
    set_rate(optimizer, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if name.endswith("linear.weight") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_layers_further_down_learn_slower() -> None:
    """The rate of layer k of n is decay^(n - k), of what feeds them decay^(n + 1), of a head 1."""
    sizes = {"d_model": 8, "layer.attention.num_heads": 2, "layer.feed_forward.d_ff": 8}
    stacks = {"encoder.num_layers": 2, "decoder.num_layers": 3, "tie": "none"}
    config = TransformerConfig.preset("tiny", vocab_size=9, overrides={**sizes, **stacks})
    scales = layer_scales(Transformer(config), 0.5)
    at = {
        "source_embedding.": 0.5**4,
        "target_embedding.": 0.5**4,
        "encoder.layers.0.": 0.25,
        "encoder.layers.1.": 0.5,
        "decoder.layers.0.": 0.125,
        "decoder.layers.1.": 0.25,
        "decoder.layers.2.": 0.5,
        "head.": 1.0,
    }
    for name, scale in scales.items():
        (expected,) = [value for begin, value in at.items() if name.startswith(begin)]
        assert scale == expected, name


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_the_rates_of_every_family(name: str) -> None:
    """What feeds the first layer learns slowest, what reads the last one at the full rate."""
    family = registry.family(name)
    model = family.model(family.tiny())
    scales = layer_scales(model, 0.9)
    assert scales.keys() == {name for name, _ in model.named_parameters()}
    layered = {name: scale for name, scale in scales.items() if ".layers." in name}
    lowest, highest = 0.9**2, 0.9
    assert {round(scale, 9) for scale in layered.values()} == {round(lowest, 9), highest}
    assert all(scale == lowest for name, scale in layered.items() if ".layers.0." in name)
    feeding = {name for name in scales if "embedding" in name or ".input_norm." in name}
    feeding |= {name for name in scales if ".positions." in name}
    others = scales.keys() - layered.keys() - feeding
    assert {scales[name] for name in feeding} == {0.9**3}
    assert {scales[name] for name in others} <= {1.0}


def test_frozen_layers_count() -> None:
    model = toy_model()
    for parameter in model.layers[1].parameters():
        parameter.requires_grad_(False)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(OptimizerSettings(), model, weights, 0.5)
    assert sorted(group["lr_scale"] for group in optimizer.param_groups) == [0.125, 0.25]


def test_rates_follow_the_scales() -> None:
    model = toy_model()
    optimizer = make_optimizer(OptimizerSettings(), model, dict(model.named_parameters()), 0.5)
    set_rate(optimizer, 0.8)
    assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([0.1, 0.2, 0.4])


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_the_update_is_the_papers(kind: str) -> None:
    """Against the formula of Kingma & Ba, algorithm 1, in float64."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3))
    model = torch.nn.Module()
    model.weight = weight
    optimizer = make_optimizer(OptimizerSettings(kind, eps=1e-8), model, {"weight": weight}, 1.0)
    set_rate(optimizer, 0.01)
    expected, m, v = weight.detach().double().clone(), torch.zeros(5, 3), torch.zeros(5, 3)
    for step in range(1, 4):
        gradient = torch.randn(5, 3)
        weight.grad = gradient.clone()
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient.double()
        v = 0.98 * v + 0.02 * gradient.double() ** 2
        expected -= 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.98**step)).sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_adafactor_is_the_papers() -> None:
    """Against Shazeer & Stern, algorithm 4, in float64: a matrix by its rows and columns."""
    torch.manual_seed(0)
    start = {"matrix": torch.randn(5, 3), "vector": torch.randn(4) * 1e-6}
    weights = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    model = torch.nn.ParameterDict(weights)
    optimizer = make_optimizer(OptimizerSettings("adafactor"), model, weights, 1.0)
    set_rate(optimizer, 0.6)
    expected = {name: value.double() for name, value in start.items()}
    means = {"rows": 0.0, "columns": 0.0, "vector": 0.0}
    for step in range(1, 6):
        gradients = {name: torch.randn_like(value) for name, value in start.items()}
        for name, weight in weights.items():
            weight.grad = gradients[name].clone()
        optimizer.step()
        kept = 1 - step**-0.8
        squares = {name: gradient.double() ** 2 for name, gradient in gradients.items()}
        matrix = squares["matrix"]
        new = {"rows": matrix.mean(1), "columns": matrix.mean(0), "vector": squares["vector"]}
        means = {name: kept * means[name] + (1 - kept) * value for name, value in new.items()}
        outer = means["rows"][:, None] * means["columns"] / means["rows"].mean()
        for name, second in (("matrix", outer), ("vector", means["vector"])):
            update = gradients[name].double() / second.sqrt()
            update /= max(1.0, update.square().mean().sqrt())
            size = max(1e-3, expected[name].square().mean().sqrt())
            expected[name] -= min(0.6, step**-0.5) * size * update
    for name, weight in weights.items():
        torch.testing.assert_close(weight.detach().double(), expected[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", registry.names("optimizers"))
def test_what_is_kept_of_a_weight_is_told_before(kind: str) -> None:
    shapes = {"matrix": (5, 3), "vector": (7,), "kernel": (4, 2, 3, 6)}
    weights = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    optimizer = make_optimizer(
        OptimizerSettings(kind), torch.nn.ParameterDict(weights), weights, 1.0
    )
    for weight in weights.values():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    for name, weight in weights.items():
        kept = [value for key, value in optimizer.state[weight].items() if key != "step"]
        assert state_size(kind, shapes[name]) == sum(value.numel() for value in kept)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_torchs_own_makes_the_same_steps_and_state(kind: str) -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(7), torch.randn(2)]
    ours, theirs = ([torch.nn.Parameter(one.clone()) for one in start] for _ in range(2))
    decay = 0.1 if kind == "adamw" else 0.0
    groups = [{"params": ours[:1], "lr_scale": 1.0, "weight_decay": decay}, {"params": ours[1:]}]
    settings = OptimizerSettings(kind, betas=(0.8, 0.95), eps=1e-6)
    optimizer = registry.kind("optimizers", kind)(settings, groups)
    groups = [{"params": theirs[:1], "weight_decay": decay}, {"params": theirs[1:]}]
    options = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.0, "fused": True}
    reference = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](groups, **options)
    for rate in (0.1, 0.05, 0.2):
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] = rate
        for one, other in zip(ours[:2], theirs[:2], strict=True):  # the last one has no gradient
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        assert optimizer.state[one].keys() == reference.state[other].keys()
        for name, value in optimizer.state[one].items():
            assert torch.equal(value, reference.state[other][name])


COMPILER = """
import sys
import torch
from regard import registry
from regard.nn.init import Unfilled
from regard.training import OptimizerSettings
from regard.training.optimizers import make_optimizer
for name in registry.names("families"):
    family = registry.family(name)
    with Unfilled():
        model = family.model(family.tiny())
for kind in ("adam", "adamw"):
    weights = dict(model.named_parameters())
    optimizer = make_optimizer(OptimizerSettings(kind), model, weights, 1.0)
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_nothing_imports_torchs_compiler() -> None:
    """It would take more than a second of every start."""
    done = subprocess.run([sys.executable, "-c", COMPILER], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
