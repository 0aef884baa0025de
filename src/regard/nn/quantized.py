"""Linear maps whose products are of 8-bit integers, for models that only predict, on a CPU.

Shapes: states [..., in_features], codes int8 [out_features, in_features], scales [out_features].

Each row of the states and each row of the weight has a scale of its own, its largest entry over
127 (vector-wise quantization: Dettmers et al., "LLM.int8()", 2022, section 3.1), so that a row's
result does not depend on what else is in the batch. Everything between the products stays float32,
but keys and values that are remembered while decoding are held in bfloat16: to read them takes a
third of a step with many texts, and it is no coarser than what they were made of.
The operator in C++ and the calls of oneDNN give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regard.nn import backend, native
from regard.nn.heads import LanguageModelHead
from regard.nn.linear import Linear, SplitLinear
from regard.nn.native import operators
from regard.nn.native.stack import attach
from regard.nn.stack import Stack

LARGEST = 127
"""The largest code; the smallest is -127, so that a change of sign loses nothing."""


class QuantizedLinear(nn.Module):
    """states · weightᵀ + bias with an int8 weight, in the place of a finished linear map.

    Attributes:
        scales: float32 [out_features]; the weight is codes · scales.
        bias: float32 [out_features], or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        self._product: _Native | _Calls
        if native.loaded():
            self._product = _Native(weight)
        else:
            codes, scales = quantize_rows(weight)
            self._product = _Calls(codes, scales[:, 0])
        self.scales: Tensor
        self.bias: Tensor | None
        self.register_buffer("scales", self._product.scales)
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    @property
    def native(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """What C++ multiplies by: packed codes, scales and sums; None where it does not."""
        made = self._product
        return (made.packed, made.scales, made.sums) if isinstance(made, _Native) else None

    @property
    def codes(self) -> Tensor:
        """int8 [out_features, in_features]."""
        return self._product.codes

    @property
    def weight(self) -> Tensor:
        """The weight that the codes stand for, float32 [out_features, in_features]."""
        return self.codes * self.scales[:, None]

    def forward(self, states: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features], in the dtype of the states."""
        return self.product(states)

    def product(self, states: Tensor) -> Tensor:
        """All outputs beside each other."""
        rows = states.reshape(-1, states.shape[-1]).float()
        made = self._product(rows, self.bias)  # [N, out_features]
        return made.to(states.dtype).view(*states.shape[:-1], len(self.scales))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        raise RuntimeError("an int8 model takes no other weights: load them before it is quantized")

    def _save_to_state_dict(self, *arguments: Any) -> None:
        raise RuntimeError("an int8 model is not saved: save its weights before it is quantized")

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        moved = fn(self.scales)
        if moved.dtype != torch.float32 or moved.device.type != "cpu":
            raise RuntimeError("an int8 model stays on the CPU, and float32 between its products")
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class QuantizedSplitLinear(QuantizedLinear):
    """Several linear maps of one input; see `regard.nn.linear.SplitLinear`."""

    def __init__(self, base: SplitLinear) -> None:
        super().__init__(base.weight, base.bias)
        self.widths = dict(base.widths)

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """[..., in_features] → [..., width] for each map, in order."""
        joint = self.product(states)
        return torch.split(joint, list(self.widths.values()), dim=-1)


class _Native:
    """The product by the operator in C++."""

    def __init__(self, weight: Tensor) -> None:
        self.shape = weight.shape
        self.packed, self.scales, self.sums = operators.int8_weight(weight)

    def __call__(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        """[N, in_features] → [N, out_features]."""
        return operators.int8_linear(rows, self.packed, self.scales, self.sums, bias)

    @property
    def codes(self) -> Tensor:
        """Out of the order in which they are read: kept once, they take a quarter of float32."""
        outputs, width = self.shape
        groups, depth = self.packed.shape[:2]
        rows = self.packed.permute(0, 2, 3, 1, 4).reshape(groups * 64, depth * 4)
        return rows[:outputs, :width]


class _Calls:
    """The same by oneDNN and a few calls of torch."""

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        self.codes, self.scales = codes, scales
        self.weight = backend.Int8Weight(codes, scales)

    def __reduce__(self) -> tuple[type, tuple[Tensor, Tensor]]:
        return _Calls, (self.codes, self.scales)  # what is packed cannot be copied

    def __call__(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        """[N, in_features] → [N, out_features]."""
        codes, scales = quantize_rows(rows)
        made = self.weight.product(codes)
        return made.mul_(scales) if bias is None else torch.addcmul(bias, made, scales)


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 [N, d] and scales [N, 1] of rows [N, d]; a row of zeros stays one."""
    least = torch.finfo(rows.dtype).tiny
    scales = rows.abs().amax(dim=-1, keepdim=True).mul_(1 / LARGEST).clamp_min_(least)
    return (rows * scales.reciprocal()).round_().to(torch.int8), scales


def quantize(model: nn.Module) -> None:
    """Put int8 maps into the place of a model's linear maps and its language-model head.

    Embeddings, norms and positions stay as they are; a matrix that is embedding and head at once
    is looked up in float32 and multiplied in int8.

    Args:
        model: in float32 on a CPU, changed in place; it only predicts from now on.
    """
    native.load()
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            # a subclass does more than its product: its adapters would be lost
            if type(module) is SplitLinear:
                setattr(parent, name, QuantizedSplitLinear(module))
            elif type(module) is Linear or type(module) is LanguageModelHead:
                setattr(parent, name, QuantizedLinear(module.weight, module.bias))
    for module in model.modules():
        if isinstance(module, Stack):
            module.cache_dtype = torch.bfloat16
    model.eval()
    attach(model)
