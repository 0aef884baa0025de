"""A stack's step of decoding by one call of C++, in place of some two hundred of torch.

Shapes: states [B, T, d_model].
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.nn import backend, feedforward, kernels, native
from regard.nn.attention import Attention, AttentionContext
from regard.nn.cache import Cache, DecodingState
from regard.nn.embeddings import TokenEmbedding
from regard.nn.heads import LanguageModelHead
from regard.nn.linear import Linear, SplitLinear
from regard.nn.masks import Explicit, Full, Padding
from regard.nn.modes import modules_of
from regard.nn.norms import LayerNorm, RMSNorm
from regard.nn.positions import Learned, NoPositions, PositionScheme, Rotary, Sinusoidal
from regard.nn.residual import Residual
from regard.nn.stack import Layer, Stack

MOST_TOKENS = 32
"""Of a sentence in one step: a beam's hypotheses, or a short prefix (docs/LOG.md)."""

_MAPS = (Linear, SplitLinear, LanguageModelHead)
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
        self._like = cast(Tensor, norm.weight).detach()
        self._ends: list[Any] = []
        self._knows_ends = False

    def serves(self, states: Tensor, cache: Cache) -> bool:
        """Whether it can make this step, and the stack is still what it was made of."""
        plain = states.dtype == torch.float32 and states.device.type == "cpu"
        return plain and states.shape[1] <= MOST_TOKENS and self._is_usable(cache)

    def _is_usable(self, cache: Cache) -> bool:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if kernels.observed() or kernels.forced():
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
        seen = context.mask.allowed, None if over is None else over.mask.allowed
        held = self._held(cache, batch, length, seen, context.turning)
        return cast(Tensor, self._made.step(states, *held))

    def logits(
        self, embedding: nn.Module, head: nn.Module, tokens: Tensor, state: DecodingState
    ) -> Tensor | None:
        """See `regard.nn.stack.FusedStep`."""
        cache, stack = state.cache, self._stack
        single = tokens.shape[1] == 1 and tokens.device.type == "cpu" and cache.width <= MOST_TOKENS
        if not single or cache.length >= stack.max_positions or not self._is_usable(cache):
            return None  # behind the last position the stack says what is wrong
        if cache.fused_ends is None:
            cache.fused_ends = self._surround(embedding, head)
        if not cache.fused_ends:
            return None
        place = cache.length
        ids, positions, rule = cache.open(tokens)  # [B, T], [1, T]
        turning = stack.positions.prepare(positions, torch.float32)
        # a single new slot of each row sees all before it, and the stack's pattern hides nothing
        seen = rule.table[:, None] if isinstance(rule, Explicit) else None
        memory = state.memory_mask
        remembered = memory.real[:, None, None] if isinstance(memory, Padding) else None
        rows, length = ids.shape
        held = self._held(cache, rows, length, (seen, remembered), turning)
        cache.slots += ids.shape[1]
        return cast(Tensor, self._made.logits(ids, place, *held))

    def _held(
        self,
        cache: Cache,
        batch: int,
        length: int,
        seen: tuple[Tensor | None, Tensor | None],
        turning: Any,
    ) -> tuple[Any, ...]:
        """What C++ calls so: the cache with room for the new slots, the memory, the masks."""
        widths = self.d_key, self.d_value
        rooms = [
            layer.room(batch, self.kv_heads, length, widths, self._like) for layer in cache.layers
        ]
        memories = [layer.memory for layer in cache.layers if layer.memory is not None]
        return (
            [keys for keys, _, _ in rooms],
            [values for _, values, _ in rooms],
            rooms[0][2],
            seen[0],
            [keys for keys, _ in memories],
            [values for _, values in memories],
            seen[1],
            *(turning or (None, None)),
        )

    def _surround(self, embedding: nn.Module, head: nn.Module) -> bool:
        """Hand over what stands before and behind the layers; whether C++ knows it."""
        ends = [*_state_of(embedding), *_state_of(head)]
        if ends != self._ends:
            self._ends, self._knows_ends = ends, False
            stack, last = self._stack, _map(head)
            bare = stack.input_norm is None and isinstance(stack.pattern, Full)
            hooked = _is_hooked(embedding) or _is_hooked(head)
            if last is not None and type(embedding) is TokenEmbedding and bare and not hooked:
                added, offset = _places(stack.positions)
                table = embedding.weight.detach()
                self._made.surround(table, embedding.scale, added, offset, last)
                self._knows_ends = True
        return self._knows_ends


def _places(scheme: PositionScheme) -> tuple[Tensor | None, int]:
    """The vectors that a scheme adds to the states, and in which row those of position 0 stand."""
    if isinstance(scheme, Sinusoidal):
        return scheme.table, 0
    if isinstance(scheme, Learned):
        return scheme.weight.detach(), scheme.options.offset
    return None, 0


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
    known = known and not _is_hooked(stack) and all(map(_is_known, layers))
    return FusedStack(stack) if known else None


def _is_hooked(model: nn.Module) -> bool:
    return any(one._forward_hooks or one._forward_pre_hooks for one in modules_of(model))


def _state_of(model: nn.Module) -> list[Any]:
    """Another list whenever a module, a weight, a hook or the mode is another."""
    found: list[Any] = []
    for module in modules_of(model):
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
