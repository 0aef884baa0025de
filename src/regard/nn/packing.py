"""Weights packed once for prediction: the same numbers, fewer cache misses.

Shapes: weight [out, in].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from regard.nn import backend
from regard.nn.heads import LanguageModelHead
from regard.nn.linear import Linear, SplitLinear
from regard.nn.native.stack import attach
from regard.nn.stack import Stack


def pack(model: nn.Module) -> list[Tensor]:
    """Pack the weights of all linear maps, for a model that is only going to predict.

    Takes as much memory again as they have. Where the machine or the dtype has no packed product,
    nothing changes.

    Returns:
        The weights that were not packed before.
    """
    weights = [
        module.weight
        for module in model.modules()
        if isinstance(module, Linear | SplitLinear | LanguageModelHead)
    ]
    found = [weight for weight in weights if not backend.is_packed(weight) and backend.pack(weight)]
    attach(model)
    return found


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Pack the weights for a while; those packed already stay so."""
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    before = [stack.fused for stack in stacks]
    weights = pack(model)
    try:
        yield
    finally:
        for weight in weights:
            backend.unpack(weight)
        for stack, fused in zip(stacks, before, strict=True):
            stack.fused = fused
