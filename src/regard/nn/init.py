"""Initialisation of a whole model: where a paper has one way for all of its parts, or of none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regard.nn.heads import LanguageModelHead
from regard.nn.linear import Linear, SplitLinear

ENDS = ("sublayer.output", "sublayer.contract")
"""The maps that end a sublayer: attention's and the feed-forward network's."""


def init_normal(model: nn.Module, std: float, *, num_layers: int | None = None) -> None:
    """Matrices from N(0, std²), biases zero; norms stay as they are.

    Args:
        model: changed in place.
        std: of every linear map, embedding, table of positions and head.
        num_layers: the maps that end a sublayer get std / √(2 · num_layers) instead, so that the
            sum of all sublayers keeps its size (Radford et al., 2019, section 2.3).
    """
    for name, module in model.named_modules():
        if isinstance(module, Linear | SplitLinear | LanguageModelHead):
            ends = num_layers is not None and name.endswith(ENDS)
            own = std * (2 * (num_layers or 1)) ** -0.5 if ends else std
            nn.init.normal_(module.weight, std=own)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif getattr(module, "looks_up", False):
            nn.init.normal_(module.weight, std=std)


_DRAWN = (
    *(Tensor.normal_, Tensor.uniform_),
    *(nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.trunc_normal_),
)  # the latter hand themselves over whole, and draw unseen


class Unfilled(TorchFunctionMode):
    """Inside, nothing random is drawn into tensors: weights will be loaded, or nobody reads them.

    On the meta device a draw would also import torch's compiler first, which takes a second.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWN:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
