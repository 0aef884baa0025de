"""What C++ knows of a stack: its layers' common form, and their tensors in its order.

Shapes: those of the parts' weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from regard.nn import backend, feedforward
from regard.nn.attention import Attention
from regard.nn.heads import LanguageModelHead
from regard.nn.linear import Linear, SplitLinear
from regard.nn.modes import modules_of
from regard.nn.norms import LayerNorm, RMSNorm
from regard.nn.residual import Residual
from regard.nn.stack import Layer, Stack

MAPS = (Linear, SplitLinear, LanguageModelHead)
_NORMS = (LayerNorm, RMSNorm)
_FEED_FORWARDS = (feedforward.FeedForward, feedforward.GatedFeedForward)
ACTIVATIONS = {
    feedforward.relu: "relu",
    feedforward.gelu: "gelu",
    feedforward.gelu_tanh: "gelu_tanh",
    feedforward.silu: "silu",
}


def state_of(model: nn.Module) -> list[Any]:
    """Another list whenever a module, a weight or a hook is another."""
    found: list[Any] = []
    for module in modules_of(model):
        found += [id(module), len(module._forward_hooks), len(module._forward_pre_hooks)]
        for held in (*module._parameters.values(), *module._buffers.values()):
            if held is not None:
                version = 0 if held.is_inference() else held._version
                found += [id(held), held.data_ptr(), version]
    return found


class Form(NamedTuple):
    """What is alike in all layers that C++ does: types of parts, and settings beside weights."""

    placement: str
    norm: type
    eps: float
    heads: int
    kv_heads: int
    d_key: int
    d_value: int
    scale: float
    feed_forward: type
    activation: Any

    @property
    def sizes(self) -> list[int]:
        """As `Stack` wants them behind d_model."""
        return [self.heads, self.kv_heads, self.d_key, self.d_value]


def form_of(stack: Stack) -> Form | None:
    """The layers' form; None where they have none in common, or a part is another's."""
    norms: set[Any] = set()
    heads: set[Any] = set()
    forwards: set[Any] = set()
    for layer in cast(list[Layer], list(stack.layers)):
        attentions = [layer.self_attention]
        if layer.cross_attention is not None:
            attentions.append(layer.cross_attention)
        residuals = [*attentions, layer.feed_forward]
        if type(layer) is not Layer or any(type(one) is not Residual for one in residuals):
            return None
        forward: Any = layer.feed_forward.sublayer
        forwards.add((type(forward), getattr(forward, "activation", None)))
        norms |= {(one.placement, type(one.norm), getattr(one.norm, "eps", 0)) for one in residuals}
        for attention in (cast(Attention, one.sublayer) for one in attentions):
            if type(attention) is not Attention:
                return None
            sizes = attention.spec.num_heads, attention.spec.kv_heads
            heads.add((*sizes, attention.d_key, attention.d_value, attention.scale))
    if stack.norm is not None:
        norms.add(("pre", type(stack.norm), getattr(stack.norm, "eps", 0)))
    if not len(norms) == len(heads) == len(forwards) == 1:
        return None
    form = Form(*norms.pop(), *heads.pop(), *forwards.pop())
    known = form.norm in _NORMS and form.feed_forward in _FEED_FORWARDS
    return form if known and form.activation in ACTIVATIONS else None


def maps_of(layer: Layer) -> list[nn.Module | None]:
    """A layer's linear maps as `Stack::add` wants them; that of the memory is not among them."""
    own: Any = layer.self_attention.sublayer
    forward: Any = layer.feed_forward.sublayer
    cross: Any = None if layer.cross_attention is None else layer.cross_attention.sublayer
    between = [None, None] if cross is None else [cross.query, cross.output]
    return [own.qkv, own.output, *between, forward.expand, forward.contract]


def tensors_of(layer: Layer) -> list[Tensor | None]:
    """As `Stack::add` wants them."""
    cross = layer.cross_attention
    norms = [layer.self_attention.norm, cross and cross.norm, layer.feed_forward.norm]
    found: list[Tensor | None] = []
    for one in maps_of(layer):
        found += [None] * 4 if one is None else cast(list[Tensor | None], map_of(one))
    for norm in norms:
        found += [None] * 2 if norm is None else norm_of(norm)
    return found


def map_of(module: nn.Module) -> list[Tensor | None] | None:
    """A linear map as `Map` wants it; None where it is none, or one that does more."""
    if type(module) in MAPS:
        weight, bias = cast(Any, module).weight, cast(Any, module).bias
        plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
        laid = backend.packed_for_few(weight)
        kept = None if bias is None else bias.detach()
        return [weight.detach(), laid, None, kept] if plain else None
    quantized = getattr(module, "native", None)
    return None if quantized is None else [*quantized, cast(Any, module).bias]


def norm_of(norm: nn.Module) -> list[Any]:
    """A norm's scale and shift, as `Stack::add` wants them."""
    bias = getattr(norm, "bias", None)
    return [norm.weight.detach(), None if bias is None else bias.detach()]  # type: ignore[operator]
