"""Adapters: small trained parts in a finished model, beside maps that stay as they are.

Shapes: states [..., in], down [rank, in], up [out, rank].

A linear map with adapters is a subclass that takes the map's place: the weights keep their names,
and what the adapters add stands under ``adapters`` beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from regard.errors import RecipeError
from regard.nn import backend
from regard.nn.dropout import Dropout
from regard.nn.linear import Linear, SplitLinear
from regard.registry import nearest
from regard.spec import Fraction, Positive, Within


@dataclass(frozen=True)
class LoRAOptions:
    """Settings of low-rank adapters.

    Attributes:
        rank: r, of the change to a weight.
        alpha: the change is multiplied by alpha / rank.
        dropout: of what an adapter reads.
        targets: the maps that get one, by name: queries, keys, values and output of attention,
            expand (or its halves gate and up) and contract of a feed-forward network.
    """

    rank: Positive = 8
    alpha: Annotated[float, Within(1e-6)] = 16.0
    dropout: Fraction = 0.0
    targets: list[str] = field(default_factory=lambda: ["queries", "values"])


class LoRA(nn.Module):
    """What W x becomes more by: (alpha / r) · B A x (Hu et al., "LoRA", 2021, section 4.1).

    A (``down``) is N(0, 1/in) at the start and B (``up``) zero, so that the model begins as it was.
    """

    Options = LoRAOptions

    def __init__(self, in_features: int, out_features: int, options: LoRAOptions) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(options.rank, in_features))
        self.up = nn.Parameter(torch.zeros(out_features, options.rank))
        nn.init.normal_(self.down, std=in_features**-0.5)
        self.dropout = Dropout(options.dropout)
        self.scale = options.alpha / options.rank

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        inner = backend.linear(self.dropout(states), self.down, None) * self.scale  # [..., rank]
        return backend.linear(inner, self.up, None)

    def weight(self) -> Tensor:
        """The same as a change [out, in] of the map's weight, in float64."""
        return (self.up.detach().double() @ self.down.detach().double()) * self.scale


class AdaptedLinear(Linear):
    """A linear map and one adapter beside it."""

    def __init__(self, base: Linear, adapters: Mapping[str, nn.Module]) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        self.adapters = _holder(adapters)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        made = super().forward(states)
        for adapter in self.adapters.children():
            made = made + adapter(states)
        return made


class AdaptedSplitLinear(SplitLinear):
    """Several linear maps of one input, and adapters beside some of them."""

    def __init__(self, base: SplitLinear, adapters: Mapping[str, nn.Module]) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.widths, base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        self.adapters = _holder(adapters)

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        """[..., in] → [..., width] for each map, in order."""
        made = dict(zip(self.widths, super().forward(states), strict=True))
        for name, adapter in self.adapters.named_children():
            made[name] = made[name] + adapter(states)
        return tuple(made.values())


def _holder(adapters: Mapping[str, nn.Module]) -> nn.Module:
    """Modules by name; `torch.nn.ModuleDict` cannot have one that is called ``values``."""
    holder = nn.Module()
    for name, adapter in adapters.items():
        holder.add_module(name, adapter)
    return holder


def add_adapters(model: nn.Module, kind: Any, options: Any) -> None:
    """Put an adapter beside each target of a finished model, its head apart.

    Args:
        model: changed in place; its weights stay the same tensors.
        kind: such as `LoRA`.
        options: ``kind.Options``.

    Raises:
        RecipeError: a target is no map of the model.
    """
    found = list(_maps(model))
    known = list(dict.fromkeys(name for *_, maps in found for name in maps))
    for target in options.targets:
        if target not in known:
            near = nearest(target, known)
            raise RecipeError(
                f"no map of this model is called {target!r}",
                where="model.adapter.targets",
                hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
            )
    if not options.targets:
        raise RecipeError("no map gets an adapter", where="model.adapter.targets")
    for parent, child, module, maps in found:
        made = {
            name: kind(module.in_features, width, options).to(module.weight)
            for name, width in maps.items()
            if name in options.targets
        }
        if made:
            wrap = AdaptedLinear if isinstance(module, Linear) else AdaptedSplitLinear
            setattr(parent, child, wrap(cast(Any, module), made).train(module.training))


def merge_adapters(model: nn.Module) -> None:
    """Add every adapter's change to the weight it stands beside, and take the adapters out.

    The model then has the modules and names that it had without them, and the same answers but for
    rounding.
    """
    for parent, child, module, _ in list(_maps(model, adapted=True)):
        bias = module.bias is not None
        with torch.no_grad(), torch.device("meta"):
            plain = (
                Linear(module.in_features, module.out_features, bias)
                if isinstance(module, Linear)
                else SplitLinear(module.in_features, module.widths, bias)
            )
        plain.weight, plain.bias = module.weight, module.bias
        for name, adapter in cast(Any, module).adapters.named_children():
            rows = plain.weight.detach() if isinstance(plain, Linear) else plain.slice(name)[0]
            rows.copy_(rows.double() + adapter.weight())
        setattr(parent, child, plain.train(module.training))


Map = tuple[nn.Module, str, "Linear | SplitLinear", dict[str, int]]


def _maps(model: nn.Module, *, adapted: bool = False) -> Iterator[Map]:
    """Parent, name in it, module, and the widths of its maps by name; not those of the head.

    ``adapted``: those that have adapters, else those that have none.
    """
    for path, parent in model.named_modules():
        if path.split(".")[0] == "head":
            continue
        for child, module in parent.named_children():
            is_adapted = isinstance(module, AdaptedLinear | AdaptedSplitLinear)
            if (child == "head" and not path) or is_adapted != adapted:
                continue
            if isinstance(module, SplitLinear):
                yield parent, child, module, module.widths
            elif isinstance(module, Linear):
                # Of cross-attention, whose queries alone come from the states.
                name = "queries" if child == "query" else child
                yield parent, child, module, {name: module.out_features}
