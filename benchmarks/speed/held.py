"""What the tensors of forward and backward hold at once: activations, without gradients."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Notes when the memory of a tensor is taken and given back, by torch's operators."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[int, int] = {}  # of storages that live, by address
        self._bytes: list[int] = []
        self._events: list[tuple[int, int]] = []  # place and 1 or -1, in order
        self._gradients: set[int] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = {held.untyped_storage()._cdata for held in _tensors((args, kwargs))}
        made = operator(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            address = storage._cdata
            if address not in given and address not in self._places:
                self._places[address] = len(self._bytes)
                self._events.append((len(self._bytes), 1))
                self._bytes.append(storage.nbytes())
                weakref.finalize(storage, self._drop, address)
        return made

    def _drop(self, address: int) -> None:
        self._events.append((self._places.pop(address), -1))

    def leave_out(self, weight: nn.Parameter) -> None:
        """A weight's gradient is no activation."""
        if weight.grad is not None:
            self._gradients.add(self._places.get(weight.grad.untyped_storage()._cdata, -1))

    def peak(self) -> float:
        """MiB."""
        now = most = 0
        for place, sign in self._events:
            if place not in self._gradients:
                now += sign * self._bytes[place]
                most = max(most, now)
        return most / 2**20


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def held_by(step: Callable[[], Any], model: nn.Module) -> float:
    """MiB of a step's tensors at their peak, but for the gradients of the model's weights."""
    seen = Held()
    hooks = [
        weight.register_post_accumulate_grad_hook(seen.leave_out) for weight in model.parameters()
    ]
    with seen:
        step()
    for hook in hooks:
        hook.remove()
    return seen.peak()
