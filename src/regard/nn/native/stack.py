"""A stack's step of decoding by one call of C++, in place of some two hundred of torch.

Shapes: states [B, T, d_model].
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.nn import backend, feedforward, kernels, native
from regard.nn.attention import Attention, AttentionContext
from regard.nn.cache import Cache
from regard.nn.linear import Linear, SplitLinear
from regard.nn.norms import LayerNorm, RMSNorm
from regard.nn.positions import Learned, NoPositions, Rotary, Sinusoidal
from regard.nn.residual import Residual
from regard.nn.stack import Layer, Stack

MOST_TOKENS = 32
"""Of a sentence in one step: a beam's hypotheses, or a short prefix (docs/LOG.md)."""

_MAPS = (Linear, SplitLinear)
_ACTIVATIONS = {
    feedforward.relu: "relu",
    feedforward.gelu: "gelu",
    feedforward.gelu_tanh: "gelu_tanh",
    feedforward.silu: "silu",
}


class FusedStack:
    """What a stack does with a cache, from the states with positions added to those of its end."""

    def __init__(self, stack: Stack) -> None:
        self._layers = [cast(Layer, layer) for layer in stack.layers]
        first = self._layers[0]
        attention, norm = _attention(first.self_attention), first.self_attention.norm
        width = len(cast(Tensor, norm.weight))
        sizes = [width, attention.spec.num_heads, attention.spec.kv_heads]
        forward: Any = first.feed_forward.sublayer
        self.kv_heads, self.d_key, self.d_value = sizes[2], attention.d_key, attention.d_value
        self._stack, self._given = stack, _state_of(stack)
        self._crosses = first.cross_attention is not None
        self._made = torch.classes.regard.Stack(
            [*sizes, attention.d_key, attention.d_value],
            attention.scale,
            cast(Any, norm).eps,
            first.self_attention.placement == "pre",
            isinstance(norm, LayerNorm),
            isinstance(forward, feedforward.GatedFeedForward),
            _ACTIVATIONS[forward.activation],
        )
        for layer in self._layers:
            self._made.add(_tensors(layer))
        if stack.norm is not None:
            self._made.end(*_norm(stack.norm))

    def serves(self, states: Tensor, cache: Cache) -> bool:
        """Whether it can make this step, and the stack is still what it was made of."""
        plain = states.dtype == torch.float32 and states.device.type == "cpu"
        if not plain or states.shape[1] > MOST_TOKENS or torch.compiler.is_compiling():
            return False
        if torch.is_grad_enabled() or kernels.observed() or kernels.forced():
            return False
        if cache.fused is None:  # asked once for each text
            known = not self._crosses or all(layer.memory is not None for layer in cache.layers)
            cache.fused = known and self._given == _state_of(self._stack)
        return cache.fused

    def __call__(
        self,
        states: Tensor,
        context: AttentionContext,
        over: AttentionContext | None,
        cache: Cache,
    ) -> Tensor:
        """States [B, T, d_model] after all layers; the cache holds their keys and values."""
        batch, length, _ = states.shape
        rooms = [
            layer.room(batch, self.kv_heads, length, (self.d_key, self.d_value), states)
            for layer in cache.layers
        ]
        memories = [] if over is None else [cast(Any, layer.memory) for layer in cache.layers]
        cosines, sines = context.turning or (None, None)
        made = self._made.step(
            states,
            [keys for keys, _, _ in rooms],
            [values for _, values, _ in rooms],
            rooms[0][2],
            context.mask.allowed,
            [keys for keys, _ in memories],
            [values for _, values in memories],
            None if over is None else over.mask.allowed,
            cosines,
            sines,
        )
        return cast(Tensor, made)


def attach(model: nn.Module) -> None:
    """Let the stacks of a model that only predicts decode by C++, where it is there."""
    for module in model.modules():
        if isinstance(module, Stack):
            module.fused_step = fused_stack(module) if native.loaded() else None


def fused_stack(stack: Stack) -> FusedStack | None:
    """The same stack in one call; None where it has a part that C++ does not know."""
    if isinstance(stack.positions, Rotary):
        known = stack.positions.options.layout == "halves"
    else:
        known = type(stack.positions) in (Sinusoidal, Learned, NoPositions)
    layers = [cast(Layer, layer) for layer in stack.layers]
    return FusedStack(stack) if known and all(map(_is_known, layers)) else None


def _state_of(stack: Stack) -> list[Any]:
    """Another list whenever a module, a weight, a hook or the mode is another."""
    found: list[Any] = []
    for module in stack.modules():
        found += [id(module), module.training, len(module._forward_hooks)]
        found.append(len(module._forward_pre_hooks))
        for held in (*module._parameters.values(), *module._buffers.values()):
            if held is not None:
                version = 0 if held.is_inference() else held._version
                found += [id(held), held.data_ptr(), version]
    return found


def _is_known(layer: Layer) -> bool:
    residuals = [layer.self_attention, layer.cross_attention, layer.feed_forward]
    norms = all(type(one.norm) in (LayerNorm, RMSNorm) for one in residuals if one is not None)
    forward: Any = layer.feed_forward.sublayer
    kinds = (feedforward.FeedForward, feedforward.GatedFeedForward)
    count = sum(_map(module) is not None for module in layer.modules())
    return (
        norms
        and type(forward) in kinds
        and forward.activation in _ACTIVATIONS
        and count == (4 if layer.cross_attention is None else 7)  # with keys and values of memory
    )


def _attention(residual: Residual) -> Attention:
    return cast(Attention, residual.sublayer)


def _tensors(layer: Layer) -> list[Tensor | None]:
    """As `Stack::add` wants them."""
    own = _attention(layer.self_attention)
    forward: Any = layer.feed_forward.sublayer
    maps: list[Any] = [own.qkv, own.output, None, None, forward.expand, forward.contract]
    norms: list[nn.Module | None] = [layer.self_attention.norm, None, layer.feed_forward.norm]
    if layer.cross_attention is not None:
        cross = _attention(layer.cross_attention)
        maps[2:4] = cross.query, cross.output
        norms[1] = layer.cross_attention.norm
    found: list[Tensor | None] = []
    for one in maps:
        found += [None] * 4 if one is None else _map(one) or ()
    for norm in norms:
        found += [None] * 2 if norm is None else _norm(norm)
    return found


def _map(module: nn.Module) -> list[Tensor | None] | None:
    """A linear map as `Map` wants it; None where it is none, or one that does more."""
    if type(module) in _MAPS:
        weight, bias = cast(Any, module).weight, cast(Any, module).bias
        plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
        laid = backend.packed_for_few(weight)
        kept = None if bias is None else bias.detach()
        return [weight.detach(), laid, None, kept] if plain else None
    quantized = getattr(module, "native", None)
    return None if quantized is None else [*quantized, cast(Any, module).bias]


def _norm(norm: nn.Module) -> list[Any]:
    bias = getattr(norm, "bias", None)
    return [norm.weight.detach(), None if bias is None else bias.detach()]  # type: ignore[operator]
