"""A stack by one call of C++ in place of some hundreds of torch, of whole texts or of a step; where
C++ is not there, a step by few calls of torch.

Shapes: states [B, T, d_model].
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.nn import feedforward, kernels, native
from regard.nn.attention import AttentionContext
from regard.nn.cache import Cache, DecodingState
from regard.nn.embeddings import TokenEmbedding
from regard.nn.masks import Causal, Explicit, Full, Padding, Rule
from regard.nn.modes import is_hooked, modules_of
from regard.nn.native import calls
from regard.nn.native.parts import (
    ACTIVATIONS,
    Form,
    form_of,
    map_of,
    maps_of,
    norm_of,
    state_of,
    tensors_of,
)
from regard.nn.norms import LayerNorm
from regard.nn.positions import (
    Alibi,
    Buckets,
    Grid,
    Learned,
    NoPositions,
    PositionScheme,
    Rotary,
    Sinusoidal,
)
from regard.nn.stack import Layer, Map, Stack

MOST_TOKENS = 32
"""Of a sentence in one step: a beam's hypotheses, or a short prefix (docs/LOG.md)."""

POSITIONS = (Alibi, Buckets, Grid, Learned, NoPositions, Rotary, Sinusoidal)
"""Schemes that it knows: those that add vectors, turn heads, or add to the scores a bias that the
distance alone decides."""

TEXT_RULES = set(itertools.product((Full,), (Full, Causal), (Full, Padding)))
"""Of whole texts: the pattern, the stack's own rule and the batch's."""

IN_CPP = {(torch.float32, "cpu")}
"""The kinds of parameters that C++ reads."""

CACHE_DTYPES = (torch.float32, torch.bfloat16)
"""Of keys and values that C++ reads."""


class FusedStack:
    """What a stack does, from the states with positions added to those of its end.

    Args:
        stack: whose layers have a common form.
        form: that.
        in_cpp: whether C++ knows all maps; else it serves steps alone, in any dtype.
    """

    def __init__(self, stack: Stack, form: Form, *, in_cpp: bool) -> None:
        first = cast(Layer, stack.layers[0])
        self._like = cast(Tensor, first.feed_forward.norm.weight).detach()
        self._form = form
        self._stack, self._given = stack, state_of(stack)
        self._crosses = first.cross_attention is not None
        places = torch.arange(stack.max_positions, device=self._like.device)[None]
        bias = stack.positions.bias(places[:, -1:], places)  # [1, H, 1, max_positions]
        self._bias = None if bias is None else bias.detach().contiguous()
        self._in_cpp = in_cpp
        self._made: Any = (
            _in_cpp(stack, form, len(self._like)) if in_cpp else calls.Calls(stack, form)
        )
        self._ends: list[Any] = []
        self._knows_ends = False

    def texts(self, states: Tensor, mask: Rule, positions: Tensor) -> Tensor | None:
        """See `regard.nn.stack.Fused`."""
        if not self._in_cpp or not self._suits(states):
            return None
        stack, length = self._stack, states.shape[1]
        rules = type(stack.pattern), type(stack.rule), type(mask)
        if rules not in TEXT_RULES or self._crosses or self._bias is not None:
            return None
        if length > kernels.LONGEST_SHORT or not self._is_as_it_was():
            return None
        real = mask.real.contiguous() if isinstance(mask, Padding) else None
        if real is not None and real.shape != states.shape[:2]:
            return None
        turning = stack.positions.prepare(positions, states.dtype)
        tables = [table.contiguous() for table in turning or ()] or (None, None)
        return cast(Tensor, self._made.read(states, real, type(stack.rule) is Causal, *tables))

    def step(
        self,
        states: Tensor,
        context: AttentionContext,
        over: AttentionContext | None,
        cache: Cache,
    ) -> Tensor | None:
        """See `regard.nn.stack.Fused`."""
        batch, length, _ = states.shape
        if length > MOST_TOKENS or not self._suits(states) or not self._serves(cache):
            return None
        if context.turning is not None and len(context.turning[0]) > 1:
            return None  # each sentence has positions of its own
        seen = context.mask.allowed, None if over is None else over.mask.allowed
        held = self._held(cache, batch, length, seen, context.turning, context.bias)
        return cast(Tensor, self._made.step(states, *held))

    def logits(
        self, embedding: Map, head: Map, tokens: Tensor, state: DecodingState, factor: float
    ) -> Tensor | None:
        """See `regard.nn.stack.Fused`."""
        cache, stack = state.cache, self._stack
        if tokens.shape[1] != 1 or tokens.device != self._like.device:
            return None
        if cache.length >= stack.max_positions or cache.width > MOST_TOKENS:
            return None  # behind the last position the stack says what is wrong
        if not isinstance(state.memory_mask, Full | Padding):
            return None
        if not _is_plain(tokens.device) or not self._serves(cache):
            return None
        if cache.fused_ends is None:
            cache.fused_ends = self._surround(embedding, head, factor)
        if not cache.fused_ends:
            return None
        place = cache.length
        ids, positions, rule = cache.open(tokens)  # [B, T], [1, T]
        turning = stack.positions.prepare(positions, self._like.dtype)
        # a single new slot of each row sees all before it, and the stack's pattern hides nothing
        seen = rule.table[:, None] if isinstance(rule, Explicit) else None
        memory = state.memory_mask
        remembered = memory.real[:, None, None] if isinstance(memory, Padding) else None
        rows, length = ids.shape
        bias = None
        if self._bias is not None and cache.positions is not None:
            # of the last place's row what stands at this one's distances: [1, H, 1, slots]
            ends = cache.positions[0] + (stack.max_positions - 1 - place)
            bias = self._bias.index_select(3, ends)
        held = self._held(cache, rows, length, (seen, remembered), turning, bias)
        cache.slots += ids.shape[1]
        return cast(Tensor, self._made.logits(ids, place, *held))

    def _serves(self, cache: Cache) -> bool:
        if cache.fused is None:  # asked once for each text
            memories = [layer.memory for layer in cache.layers]
            known = not self._crosses or None not in memories
            held = {part.dtype for memory in memories for part in memory or ()}
            held |= {layer.dtype or self._like.dtype for layer in cache.layers}
            readable = len(held) == 1 and held <= set(CACHE_DTYPES)
            known = known and (readable or not self._in_cpp)
            cache.fused = known and self._is_as_it_was()
        return cache.fused

    def _suits(self, states: Tensor) -> bool:
        alike = (states.dtype, states.device) == (self._like.dtype, self._like.device)
        return alike and _is_plain(states.device)

    def _is_as_it_was(self) -> bool:
        if any(module.training for module in modules_of(self._stack)):
            return False
        return self._given == state_of(self._stack) and self._form == form_of(self._stack)

    def _held(
        self,
        cache: Cache,
        batch: int,
        length: int,
        seen: tuple[Tensor | None, Tensor | None],
        turning: Any,
        bias: Tensor | None,
    ) -> tuple[Any, ...]:
        """In C++'s order: the cache with room for new slots, the memory, masks, positions."""
        heads, widths = self._form.kv_heads, (self._form.d_key, self._form.d_value)
        rooms = [layer.room(batch, heads, length, widths, self._like) for layer in cache.layers]
        memories = [layer.memory for layer in cache.layers if layer.memory is not None]
        return (
            [keys for keys, _, _ in rooms],
            [values for _, values, _ in rooms],
            rooms[0][2],
            seen[0],
            bias,
            [keys for keys, _ in memories],
            [values for _, values in memories],
            seen[1],
            *(turning or (None, None)),
        )

    def _surround(self, embedding: Map, head: Map, factor: float) -> bool:
        """Hand over what stands before and behind the layers; whether it is known."""
        if type(embedding) is not TokenEmbedding or not isinstance(head, nn.Module):
            return False
        ends = [*state_of(embedding), *state_of(head), factor]
        if ends != self._ends:
            self._ends, self._knows_ends = ends, False
            stack = self._stack
            last = map_of(head) if self._in_cpp else calls.map_of(head)
            bare = stack.input_norm is None and isinstance(stack.pattern, Full)
            hooked = is_hooked(embedding) or is_hooked(head)
            table = embedding.weight.detach()
            alike = (table.dtype, table.device) == (self._like.dtype, self._like.device)
            if last is not None and bare and alike and not hooked:
                added, offset = _places(stack.positions)
                self._made.surround(table, embedding.scale, added, offset, last, factor)
                self._knows_ends = True
        return self._knows_ends


def _is_plain(device: torch.device) -> bool:
    """Whether nobody derives, compiles, casts, chooses the kernel or looks on."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return False
    return not (kernels.observed() or kernels.forced())


def _in_cpp(stack: Stack, form: Form, width: int) -> Any:
    made = torch.classes.regard.Stack(
        [width, *form.sizes],
        form.scale,
        form.eps,
        form.placement == "pre",
        form.norm is LayerNorm,
        form.feed_forward is feedforward.GatedFeedForward,
        ACTIVATIONS[form.activation],
    )
    for layer in stack.layers:
        made.add(tensors_of(cast(Layer, layer)))
    if stack.norm is not None:
        made.end(*norm_of(stack.norm))
    return made


def _places(scheme: PositionScheme) -> tuple[Tensor | None, int]:
    """The vectors that a scheme adds to the states, and in which row those of position 0 stand."""
    if isinstance(scheme, Sinusoidal):
        return scheme.table, 0
    if isinstance(scheme, Learned):
        return scheme.weight.detach(), scheme.options.offset
    if isinstance(scheme, Grid):
        return scheme.weight.detach(), 0
    return None, 0


def attach(model: nn.Module) -> None:
    """Let the stacks of a model that only predicts run by C++, or else by few calls of torch."""
    for module in model.modules():
        if isinstance(module, Stack):
            module.fused = fused_stack(module)


def fused_stack(stack: Stack) -> FusedStack | None:
    """The same stack in one call; None where it has a part that is not known."""
    scheme = stack.positions
    known = type(scheme) in POSITIONS
    if isinstance(scheme, Rotary):
        known = scheme.options.layout == "halves"
    if isinstance(scheme, Grid):
        known = scheme.further is None
    if type(stack) is not Stack or not known or is_hooked(stack):
        return None
    form = form_of(stack)
    if form is None:
        return None
    maps = [one for layer in stack.layers for one in maps_of(cast(Layer, layer)) if one is not None]
    kinds = {(one.dtype, one.device.type) for one in stack.parameters()}
    if native.loaded() and kinds == IN_CPP and all(map_of(one) is not None for one in maps):
        return FusedStack(stack, form, in_cpp=True)
    if len(kinds) == 1 and all(calls.map_of(one) is not None for one in maps):
        return FusedStack(stack, form, in_cpp=False)
    return None
