"""A model's modules, who watches them, and evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, one that stands in two places twice.

    `nn.Module.modules` makes each one's name on the way, which a short text's decoding notices.
    """
    found = [model]
    for module in found:
        found += [child for child in module._modules.values() if child is not None]
    return found


def is_hooked(model: nn.Module) -> bool:
    """Whether somebody wants to be called with the modules, or with their gradients."""
    return any(
        one._forward_hooks
        or one._forward_pre_hooks
        or one._backward_hooks
        or one._backward_pre_hooks
        for one in modules_of(model)
    )


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """No dropout in the block; afterwards each module is in the mode that it was in.

    What is no module has no mode.
    """
    modules = modules_of(model) if isinstance(model, nn.Module) else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
