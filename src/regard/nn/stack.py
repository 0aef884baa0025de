"""Layers and stacks: states in, states out (paper, section 3.1).

Shapes: states [B, T, d_model], memory states [B, S, d_memory], positions [B or 1, T, …].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regard import registry
from regard.errors import InputError
from regard.nn.attention import Attention, AttentionContext, AttentionSpec
from regard.nn.cache import Cache, DecodingState, LayerCache
from regard.nn.dropout import Dropout
from regard.nn.feedforward import FeedForwardSpec
from regard.nn.masks import Full, Rule, prepare
from regard.nn.norms import NormSpec, make_norm
from regard.nn.positions.scheme import GridSize, PositionScheme, PositionSpec, SchemeSize
from regard.nn.residual import NormPlacement, Residual
from regard.nn.rows import find_rows
from regard.spec import Fraction, Positive

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerSpec:
    """Settings of a layer; each part has its own.

    Attributes:
        norm_placement: ``post`` (paper) or ``pre``.
        dropout: of each sublayer's output, before it is added (paper, section 5.4).
    """

    attention: AttentionSpec = AttentionSpec()
    feed_forward: FeedForwardSpec = FeedForwardSpec()
    norm: NormSpec = NormSpec()
    norm_placement: NormPlacement = "post"
    dropout: Fraction = 0.1


@dataclass(frozen=True)
class StackSpec:
    """Settings of a stack of layers.

    Attributes:
        num_layers: N.
        positions: the scheme that the stack owns.
        layer: of each of its layers.
    """

    num_layers: Positive = 6
    positions: PositionSpec = PositionSpec()
    layer: LayerSpec = field(default_factory=LayerSpec)


@dataclass(frozen=True, eq=False)
class Memory:
    """What an encoder gives and cross-attention reads.

    Attributes:
        states: [B, S, d_model]; None where a cache holds their keys and values.
        mask: which of them are real.
        positions: [B or 1, S].
    """

    states: Tensor | None
    mask: Rule = field(default_factory=Full)
    positions: Tensor | None = None


class Fused(Protocol):
    """The layers of a stack, and its last norm, as one; with embedding and head, where it knows
    them. Each way gives None, and does nothing, where it does not serve.
    """

    def texts(self, states: Tensor, mask: Rule, positions: Tensor) -> Tensor | None:
        """Whole texts without a memory, [B, T, d_model] with positions added → the same at the end.

        Padding comes out as zeros.
        """
        ...

    def step(
        self,
        states: Tensor,
        context: AttentionContext,
        over: AttentionContext | None,
        cache: Cache,
    ) -> Tensor | None:
        """The same of the newest tokens, the cache extended."""
        ...

    def logits(
        self, embedding: Map, head: Map, tokens: Tensor, state: DecodingState, factor: float
    ) -> Tensor | None:
        """What `regard.nn.steps.step` does."""
        ...


class Layer(nn.Module):
    """Residual sublayers in a row: self-attention, cross-attention if there is a memory, FFN."""

    def __init__(
        self,
        spec: LayerSpec,
        d_model: int,
        *,
        d_memory: int | None = None,
        positions: PositionScheme | None = None,
    ) -> None:
        super().__init__()

        def residual(sublayer: nn.Module) -> Residual:
            return Residual(
                sublayer,
                d_model,
                norm=spec.norm,
                placement=spec.norm_placement,
                dropout=spec.dropout,
            )

        self.self_attention = residual(Attention(spec.attention, d_model, positions=positions))
        self.cross_attention = None
        if d_memory is not None:
            cross = Attention(spec.attention, d_model, d_memory=d_memory)
            self.cross_attention = residual(cross)
        feed_forward = registry.kind("feed_forwards", spec.feed_forward.kind)
        self.feed_forward = residual(feed_forward(spec.feed_forward, d_model))

    def forward(
        self,
        states: Tensor,
        context: AttentionContext,
        memory: Tensor | None,
        memory_context: AttentionContext | None,
        cache: LayerCache | None,
    ) -> Tensor:
        """[B, T, d_model] → [B, T, d_model]."""
        states = self.self_attention(states, context, None, cache)
        if self.cross_attention is not None:
            states = self.cross_attention(states, memory_context, memory, cache)
        return cast(Tensor, self.feed_forward(states))


class Stack(nn.Module):
    """N layers over one position scheme; a norm of its own at the end where layers are pre-norm.

    Attributes:
        gradient_checkpointing: recompute each layer in the backward pass instead of keeping its
            inner states.
        cache_dtype: in which keys and values are held while it decodes; None = as they come.
        fused: does all layers at once, of whole texts or of a step of decoding, where it serves; a
            copy of the stack has none.
    """

    def __init__(
        self,
        spec: StackSpec,
        d_model: int,
        *,
        max_positions: int,
        input_dropout: float,
        input_norm: NormSpec | None = None,
        mask: Rule | None = None,
        d_memory: int | None = None,
        grid: GridSize | None = None,
    ) -> None:
        super().__init__()
        attention = spec.layer.attention
        scheme, options = spec.positions.resolve()
        d_key, _ = attention.widths(d_model)
        heads, layers = attention.num_heads, spec.num_layers
        size = SchemeSize(d_model, d_key, heads, max_positions, layers, grid)
        self.positions: PositionScheme = scheme(size, options)
        self.input_norm = None if input_norm is None else make_norm(input_norm, d_model)
        self.dropout = Dropout(input_dropout)
        self.layers = nn.ModuleList(
            Layer(spec.layer, d_model, d_memory=d_memory, positions=self.positions)
            for _ in range(spec.num_layers)
        )
        last = spec.layer.norm_placement == "pre"
        self.norm = make_norm(spec.layer.norm, d_model) if last else None
        self.pattern = attention.pattern.rule()
        self.rule = Full() if mask is None else mask
        self.max_positions = max_positions
        self.gradient_checkpointing = False
        self.cache_dtype: torch.dtype | None = None
        self.fused: Fused | None = None

    def forward(
        self,
        states: Tensor,
        *,
        mask: Rule,
        memory: Memory | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Run the layers.

        Args:
            states: embedded tokens [B, T, d_model].
            mask: rule of the batch, joined with the stack's own; with a cache, the cache's rule.
            memory: for cross-attention.
            positions: [B or 1, T], by default 0, 1, 2 …; or what the scheme's `places` gave.
            cache: extended by this call.

        Returns:
            [B, T, d_model].

        Raises:
            InputError: when it is longer than ``max_positions``, places of sized grids apart.
        """
        positions = self._checked(positions, states, cache)
        states = self.positions.add(states, positions, 0)
        if self.input_norm is not None:
            states = cast(Tensor, self.input_norm(states))
        if self.fused is not None and cache is None and memory is None:
            made = self.fused.texts(states, mask, positions)
            if made is not None:
                return made
        context = self._context(states, mask, positions, cache)
        over = None if memory is None else self._memory_context(states, memory, context, cache)
        if self.fused is not None and cache is not None:
            made = self.fused.step(states, context, over, cache)
            if made is not None:
                return made
        if context.rows is not None:
            states = context.rows.pack(states)  # [1, N, d_model]
            positions = context.rows.pack_positions(positions)
        states = self.dropout(states)
        remembered = self._remembered(memory, over)
        for index, layer in enumerate(self.layers):
            if index > 0:
                states = self.positions.add(states, positions, index)
            own = None if cache is None else cache.layers[index]
            inputs = (states, context, remembered, over, own)
            if self.gradient_checkpointing and self.training:
                states = cast(Tensor, checkpoint(layer, *inputs, use_reentrant=False))
            else:
                states = layer(*inputs)
        states = states if self.norm is None else cast(Tensor, self.norm(states))
        return states if context.rows is None else context.rows.restore(states)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fused": None}

    def _checked(self, positions: Tensor | None, states: Tensor, cache: Cache | None) -> Tensor:
        length = states.shape[1] if cache is None else cache.length
        if length > self.max_positions and (positions is None or positions.ndim == 2):
            raise InputError(
                f"an input of {length} tokens is longer than the model's {self.max_positions}",
                hint="shorten it, or train with a larger model.max_positions",
            )
        if positions is None:
            positions = torch.arange(states.shape[1], device=states.device)[None]  # [1, T]
        return positions

    def _context(
        self, states: Tensor, mask: Rule, positions: Tensor, cache: Cache | None
    ) -> AttentionContext:
        queries, offset = states.shape[1], 0 if cache is None else cache.slots
        rule = self.pattern & (self.rule & mask if cache is None else mask)
        form = prepare(rule, queries, offset + queries, device=states.device, offset=offset)
        keys = positions if cache is None or cache.positions is None else cache.positions
        turning = self.positions.prepare(positions, states.dtype)
        bias = self.positions.bias(positions, keys)
        rows = find_rows(mask, states) if cache is None else None
        relation = self.positions.relate(positions, keys)
        return AttentionContext(form, self.positions, turning, bias, relation, rows)

    def _memory_context(
        self, states: Tensor, memory: Memory, context: AttentionContext, cache: Cache | None
    ) -> AttentionContext:
        if memory.states is not None:
            keys = memory.states.shape[1]
        else:
            assert cache is not None, "a memory without states needs a cache that holds its keys"
            keys = cache.memory_length
        form = prepare(memory.mask, states.shape[1], keys, device=states.device)
        rows = None if memory.states is None else find_rows(memory.mask, memory.states)
        return AttentionContext(form, rows=context.rows, memory_rows=rows)

    @staticmethod
    def _remembered(memory: Memory | None, over: AttentionContext | None) -> Tensor | None:
        """The memory's states [B, S, d_model], or [1, N, d_model] without its padding."""
        if memory is None or memory.states is None or over is None:
            return None
        rows = over.memory_rows
        return memory.states if rows is None else rows.pack(memory.states)
