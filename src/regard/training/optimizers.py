"""Optimisers, and which parameters are decayed or slowed."""

from __future__ import annotations

import math
import re
from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from regard import registry
from regard.training.adam import Adam
from regard.training.settings import OptimizerSettings

Groups = list[dict[str, Any]]


class Optimizer(Protocol):
    """What makes steps: ours, or any of `torch.optim`."""

    @property
    def param_groups(self) -> Groups:
        """With their ``params`` and rate ``lr``."""
        ...

    @property
    def state(self) -> MutableMapping[Tensor, Any]:
        """What is kept of each weight."""
        ...

    def step(self) -> Any:
        """Update the weights by their gradients."""
        ...


_LAYER = re.compile(r"^(.*?)layers\.(\d+)\.")
_INPUT = re.compile(r"(^|\.)(embedding|input_norm)\.")


def make_optimizer(
    settings: OptimizerSettings, model: nn.Module, weights: dict[str, Tensor], layer_decay: float
) -> Optimizer:
    """The optimiser over ``weights``, the float32 values of the model's trainable parameters.

    Args:
        settings: kind and numbers.
        model: says what each weight is.
        weights: by the parameter's name.
        layer_decay: see `layer_scales`.
    """
    scales = layer_scales(model, layer_decay)
    undecayed = not_decayed(model)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in weights.items():
        decay = 0.0 if name in undecayed else settings.weight_decay
        groups.setdefault((scales[name], decay), []).append(weight)
    made: Groups = [
        {"params": tensors, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), tensors in groups.items()
    ]
    return cast(Optimizer, registry.kind("optimizers", settings.kind)(settings, made))


def adam(settings: OptimizerSettings, groups: Groups) -> Optimizer:
    """Adam (Kingma & Ba, 2015)."""
    return Adam(groups, betas=settings.betas, eps=settings.eps, decoupled=False)


def adamw(settings: OptimizerSettings, groups: Groups) -> Optimizer:
    """AdamW: the decay apart from the moments (Loshchilov & Hutter, 2019)."""
    return Adam(groups, betas=settings.betas, eps=settings.eps, decoupled=True)


def adafactor(settings: OptimizerSettings, groups: Groups) -> Optimizer:
    """Adafactor (Shazeer & Stern, 2018), T5's: steps in proportion to each weight's size.

    Of a matrix it keeps means of rows and of columns in place of Adam's two moments. The rate is
    the paper's ρ, at most 1/√step.
    """
    return torch.optim.Adafactor(cast(Any, groups), lr=0.0, foreach=True)


def state_size(kind: str, shape: Sequence[int]) -> int:
    """Numbers that an optimiser keeps of a weight of this shape: two moments, but for Adafactor."""
    registry.kind("optimizers", kind)  # an unknown one is refused there
    if kind != "adafactor":
        return 2 * math.prod(shape)
    if len(shape) < 2:
        return math.prod(shape)
    *outer, rows, columns = shape
    return math.prod(outer) * (rows + columns)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def lookup_tables(model: nn.Module) -> set[str]:
    """Names of embeddings, of tokens or positions: the weights of modules with ``looks_up``."""
    tables = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding) or getattr(module, "looks_up", False)
        for parameter in module.parameters(recurse=False)
    }
    return {name for name, parameter in model.named_parameters() if id(parameter) in tables}


def not_decayed(model: nn.Module) -> set[str]:
    """Names of norms, biases and embeddings: all vectors, and the tables."""
    vectors = {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
    return vectors | lookup_tables(model)


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by, whether it trains or not.

    Of a stack's n layers, counted from 0, layer k learns at ``decay``^(n - k) times the rate of
    what stands above the stack; embeddings, and a norm on them, at ``decay``^(n + 1) for the
    tallest stack (Howard & Ruder, 2018, section 3.2; Clark et al., 2020, appendix B). A head tied
    to an embedding learns with it.
    """
    names, tables = [name for name, _ in model.named_parameters()], lookup_tables(model)
    if decay == 1.0:
        return dict.fromkeys(names, 1.0)
    found = {name: _LAYER.match(name) for name in names}
    heights: dict[str, int] = {}
    for match in found.values():
        if match:
            heights[match[1]] = max(heights.get(match[1], 0), int(match[2]) + 1)
    tallest = max(heights.values(), default=0)
    scales = {}
    for name, match in found.items():
        if match:
            scales[name] = decay ** (heights[match[1]] - int(match[2]))
        else:
            lowest = name in tables or _INPUT.search(name)
            scales[name] = decay ** (tallest + 1) if lowest else 1.0
    return scales
