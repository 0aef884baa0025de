"""Linear maps, and several of them over one input held as one weight.

Shapes: states [..., in_features], weight [out_features, in_features], bias [out_features].

Projections are always called as modules, so that an adapter or a quantized linear can take their
place in a finished model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.nn import backend


class Linear(nn.Linear):
    """states · weightᵀ + bias, as `torch.nn.Linear`, by the machine's fastest product.

    Glorot-uniform weight (Glorot & Bengio, 2010) and zero bias at the start, as in the paper's
    reference code (tensor2tensor).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        return backend.linear(states, self.weight, self.bias)


class SplitLinear(nn.Module):
    """Several linear maps of one input as one product, with one weight and bias.

    Each map is a named slice of the outputs, which adapters, sharding plans and importers address.
    Every slice is Glorot-uniform by its own width at the start, as if it stood alone; biases are
    zero.

    Args:
        in_features: width of the input.
        widths: output width of each map by name, in order.
        bias: whether there is one.
    """

    def __init__(self, in_features: int, widths: Mapping[str, int], bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.widths = dict(widths)
        self.weight = nn.Parameter(torch.empty(sum(self.widths.values()), in_features))
        self.bias = nn.Parameter(torch.empty(len(self.weight))) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, slice by slice."""
        for name in self.widths:
            weight, bias = self.slice(name)
            nn.init.xavier_uniform_(weight)
            if bias is not None:
                nn.init.zeros_(bias)

    def slice(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Weight [width, in_features] and bias [width] of one map, as views without gradient."""
        start = 0
        for other, width in self.widths.items():
            if other == name:
                rows = slice(start, start + width)
                bias = None if self.bias is None else self.bias.detach()[rows]
                return self.weight.detach()[rows], bias
            start += width
        raise KeyError(f"no slice {name!r} among {list(self.widths)}")

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        """[..., in_features] → a view [..., width] for each map, in order."""
        joint = backend.linear(states, self.weight, self.bias)  # [..., out_features]
        widths = list(self.widths.values())
        if torch.compiler.is_compiling() or not joint.requires_grad:
            return torch.split(joint, widths, dim=-1)
        columns = _Columns.apply(joint, widths)  # type: ignore[no-untyped-call]
        return cast(tuple[Tensor, ...], columns)

    def extra_repr(self) -> str:
        """The slices and their widths."""
        slices = ", ".join(f"{name}={width}" for name, width in self.widths.items())
        return f"in_features={self.in_features}, {slices}, bias={self.bias is not None}"


class _Columns(torch.autograd.Function):
    """`torch.split` of the last axis, without a copy where the gradients are columns already.

    Attention writes the gradients of queries, keys and values beside each other into one tensor.
    """

    @staticmethod
    def forward(ctx: Any, joint: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
        return torch.split(joint, widths, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return joined(gradients), None


def joined(parts: Sequence[Tensor]) -> Tensor:
    """[..., width] of each → [..., sum of widths]; a view where they stand beside each other.

    They do where they are all the columns of one tensor, in order.
    """
    first, shape = parts[0], (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    start, strides = first.storage_offset(), [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    for part in parts:
        steps = zip(part.shape, part.stride(), strides, strict=True)
        there = part.storage_offset() == start and all(n == 1 or by == to for n, by, to in steps)
        if not there or part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
            return torch.cat([*parts], dim=-1)
        start += part.shape[-1]
    return first.as_strided(shape, strides)
