"""Norms over the features of each position.

Shapes: states [B, T, d_model].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regard import registry
from regard.errors import RecipeError
from regard.nn.dropout import Dropout, draw_seed
from regard.nn.modes import is_hooked
from regard.nn.native import operators
from regard.spec import Known, Within


@dataclass(frozen=True)
class NormSpec:
    """Settings of a norm.

    Attributes:
        kind: ``layernorm`` or ``rmsnorm``.
        eps: added to the variance (rmsnorm: to the mean square).
        bias: whether a shift is learned beside the scale; None = as the kind usually has it
            (layernorm does, rmsnorm has none).
    """

    kind: Annotated[str, Known("norms")] = "layernorm"
    eps: Annotated[float, Within(0)] = 1e-5
    bias: bool | None = None


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the features, then scale and shift (Ba et al., 2016).

    Statistics are taken in float32 or wider, whatever the states' dtype. Scale 1 and shift 0 at
    the start.
    """

    def __init__(self, spec: NormSpec, d_model: int) -> None:
        super().__init__()
        self.eps = spec.eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if spec.bias is not False else None

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, d_model] → [B, T, d_model]."""
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Root mean square 1 over the features, then scale (Zhang & Sennrich, 2019).

    Statistics are taken in float32 or wider, whatever the states' dtype. Scale 1 at the start.

    Raises:
        RecipeError: when a shift is asked for.
    """

    def __init__(self, spec: NormSpec, d_model: int) -> None:
        super().__init__()
        if spec.bias:
            raise RecipeError("rmsnorm has no bias", where="layer.norm.bias", hint="leave it out")
        self.eps = spec.eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, d_model] → [B, T, d_model]."""
        if torch.is_grad_enabled() and operators.serve_training(states, self.weight):
            return _by_one_pass(self, None, states, 0.0)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return cast(Tensor, _Scaled.apply(states, self.weight, self.eps))  # type: ignore[no-untyped-call]
        return _scaled(states, self.weight, self.eps)[0]


def _scaled(states: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """States [..., d_model] normed and weighted, and what they were multiplied by, [..., 1]."""
    wide = states.to(torch.promote_types(states.dtype, torch.float32))
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = (length.square() / wide.shape[-1] + eps).rsqrt()
    return (wide * scale).to(states.dtype) * weight, scale


class _Scaled(torch.autograd.Function):
    """`_scaled` with its gradient in a third of the time that single steps take (docs/LOG.md)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, eps: float) -> Tensor:
        made, scale = _scaled(states, weight, eps)
        ctx.save_for_backward(states, weight, scale)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states, weight, scale = ctx.saved_tensors
        gradient = gradient.to(scale.dtype)
        normed = states.to(scale.dtype) * scale
        by_weight = (gradient * normed).flatten(0, -2).sum(dim=0)
        by_normed = gradient * weight.to(scale.dtype)
        share = torch.linalg.vecdot(by_normed, normed)[..., None] / normed.shape[-1]
        by_states = by_normed.addcmul_(normed, share, value=-1.0).mul_(scale)
        return by_states.to(states.dtype), by_weight.to(weight.dtype), None


def norm_sum(norm: nn.Module, dropout: Dropout, residual: Tensor, states: Tensor) -> Tensor:
    """norm(residual + dropout(states)), in one pass where C++ is loaded; all [B, T, d_model]."""
    if type(norm) in (LayerNorm, RMSNorm) and torch.is_grad_enabled() and not is_hooked(norm):
        parameters = norm.parameters()
        if operators.serve_training(states, residual, *parameters):
            return _by_one_pass(norm, residual, states, dropout.p if dropout.training else 0.0)
    return cast(Tensor, norm(dropout.add(residual, states)))


def _by_one_pass(norm: nn.Module, residual: Tensor | None, states: Tensor, p: float) -> Tensor:
    bias, centered = getattr(norm, "bias", None), isinstance(norm, LayerNorm)
    made = _Normed.apply(residual, states, norm.weight, bias, centered, norm.eps, p)  # type: ignore[no-untyped-call]
    return cast(Tensor, made)


class _Normed(torch.autograd.Function):
    """norm(residual + dropout(states)), or of the states alone, by C++; saves what is normed."""

    @staticmethod
    def forward(
        ctx: Any,
        residual: Tensor | None,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        centered: bool,
        eps: float,
        p: float,
    ) -> Tensor:
        beside = None if residual is None else residual.contiguous()
        shift = None if bias is None else bias.float()
        ctx.settings = {"centered": centered, "p": p, "seed": draw_seed() if p > 0.0 else 0}
        made, summed, statistics = operators.norm(
            states.contiguous(), beside, weight.float(), shift, eps=eps, **ctx.settings
        )
        ctx.save_for_backward(summed, statistics, weight)
        ctx.alone, ctx.bias = residual is None, None if bias is None else bias.dtype
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        summed, statistics, weight = ctx.saved_tensors
        by_residual, by_states, by_weight, by_bias = operators.norm_backward(
            gradient.contiguous(), summed, statistics, weight.float(), **ctx.settings
        )
        return (
            None if ctx.alone else by_residual,
            by_states,
            by_weight.to(weight.dtype),
            None if ctx.bias is None else by_bias.to(ctx.bias),
            *(None, None, None),
        )


def make_norm(spec: NormSpec, d_model: int) -> nn.Module:
    """The norm that ``spec`` asks for."""
    return cast(nn.Module, registry.kind("norms", spec.kind)(spec, d_model))
