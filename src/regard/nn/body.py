"""A model without its head, as a module of its own."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn


class Body(nn.Module):
    """The same modules, but for the head: called as the model is, it gives the states.

    Parameters are shared with the model, and named as there.

    Args:
        model: has ``features`` and a ``head``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, module in model.named_children():
            if name != "head":
                self.add_module(name, module)
        self._features = cast(Any, model).features

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The model's ``features``, [B, T, d_model]."""
        return cast(Tensor, self._features(*inputs, **named))
