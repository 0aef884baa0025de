"""A stack's steps of decoding in few calls of torch, where they are not in C++: in a small step
each module costs as much as what it calls.

Shapes: states [B, T, d_model], T tokens of each sentence in this step, and rows [B * T, d_model] of
them; keys [B, Hkv, slots, d_key] and values [B, Hkv, slots, d_value] of each layer; allowed bool
[B or 1, 1, T or 1, slots]; bias [1, H, T or 1, slots].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.nn import backend, feedforward
from regard.nn.kernels.fused import fused
from regard.nn.masks import MaskForm
from regard.nn.native.parts import MAPS, Form, maps_of
from regard.nn.norms import LayerNorm
from regard.nn.positions import PositionScheme
from regard.nn.stack import Layer, Map, Stack


class _Cross(NamedTuple):
    """Of cross-attention."""

    query: Map
    output: Map
    norm: Map


class _Parts(NamedTuple):
    """A layer's, ready to be called with rows."""

    qkv: Map
    output: Map
    self_norm: Map
    cross: _Cross | None
    expand: Map
    contract: Map
    feed_forward_norm: Map


class Calls:
    """What the class `Stack` of C++ does in a step, and in its words."""

    def __init__(self, stack: Stack, form: Form) -> None:
        self._form = form
        self._layers = [_parts(cast(Layer, layer)) for layer in stack.layers]
        self._last = None if stack.norm is None else _norm(stack.norm)
        self._positions: PositionScheme = stack.positions
        self._ends: Any = None

    def surround(
        self,
        embedding: Tensor,
        scale: float,
        places: Tensor | None,
        offset: int,
        head: Map,
        factor: float,
    ) -> None:
        """What stands before the layers and behind them."""
        self._ends = embedding, scale, places, offset, head, factor

    def logits(self, ids: Tensor, place: int, *held: Any) -> Tensor:
        """[B * T, V] after one token of each of T hypotheses, ids [B, T] at the same position."""
        embedding, scale, places, offset, head, factor = self._ends
        rows = F.embedding(ids.flatten(), embedding)
        if scale != 1.0:
            rows = rows.mul_(scale)
        if places is not None:
            rows = rows.add_(places[place + offset])
        rows = self._pass(rows, *ids.shape, *held)
        return cast(Tensor, head(rows if factor == 1.0 else rows * factor))

    def step(self, states: Tensor, *held: Any) -> Tensor:
        """[B, T, d_model] at the end; the cache's slots from ``start`` on are filled."""
        return self._pass(states.flatten(0, 1), *states.shape[:2], *held).view_as(states)

    def _pass(
        self,
        rows: Tensor,
        batch: int,
        length: int,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        start: int,
        allowed: Tensor | None,
        bias: Tensor | None,
        memory_keys: Sequence[Tensor],
        memory_values: Sequence[Tensor],
        memory_allowed: Tensor | None,
        *turning: Tensor | None,
    ) -> Tensor:
        form, sizes, end = self._form, (batch, length), start + length
        if len(keys[0]) != batch:
            raise RuntimeError("the cache does not fit the states")
        seen = _form(allowed, length, end, rows)
        over = _form(memory_allowed, length, memory_keys[0].shape[2] if memory_keys else 0, rows)
        for index, layer in enumerate(self._layers):
            joint = layer.qkv(self._before(layer.self_norm, rows))
            query, key, value = self._split(joint, *sizes)
            if turning[0] is not None:
                query = self._positions.turn(query, turning)
                key = self._positions.turn(key, turning)
            keys[index].narrow(2, start, length).copy_(key)
            values[index].narrow(2, start, length).copy_(value)
            own = keys[index].narrow(2, 0, end), values[index].narrow(2, 0, end)
            mixed = layer.output(self._attend(query, *own, seen, bias))
            rows = self._after(layer.self_norm, rows, mixed)
            if layer.cross is not None:
                query = layer.cross.query(self._before(layer.cross.norm, rows))
                memory = memory_keys[index], memory_values[index]
                mixed = self._attend(_heads(query, *sizes, form.heads), *memory, over, None)
                rows = self._after(layer.cross.norm, rows, layer.cross.output(mixed))
            hidden = layer.expand(self._before(layer.feed_forward_norm, rows))
            made = layer.contract(self._activate(hidden))
            rows = self._after(layer.feed_forward_norm, rows, made)
        return rows if self._last is None else self._last(rows)

    def _before(self, norm: Map, rows: Tensor) -> Tensor:
        return norm(rows) if self._form.placement == "pre" else rows

    def _after(self, norm: Map, rows: Tensor, made: Tensor) -> Tensor:
        added = made.add_(rows)
        return added if self._form.placement == "pre" else norm(added)

    def _split(self, joint: Tensor, batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        form = self._form
        widths = [form.heads * form.d_key, form.kv_heads * form.d_key, form.kv_heads * form.d_value]
        query, key, value = joint.split_with_sizes(widths, 1)
        return (
            _heads(query, batch, length, form.heads),
            _heads(key, batch, length, form.kv_heads),
            _heads(value, batch, length, form.kv_heads),
        )

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: MaskForm, bias: Tensor | None
    ) -> Tensor:
        key, value = key.to(query.dtype), value.to(query.dtype)
        mixed = fused(query, key, value, mask=mask, scale=self._form.scale, bias=bias)
        return mixed.transpose(1, 2).reshape(-1, mixed.shape[1] * mixed.shape[3])

    def _activate(self, hidden: Tensor) -> Tensor:
        activation = self._form.activation
        if self._form.feed_forward is not feedforward.GatedFeedForward:
            return cast(Tensor, activation(hidden))
        gate, up = hidden.chunk(2, dim=1)
        return cast(Tensor, activation(gate) * up)


def map_of(module: nn.Module) -> Map | None:
    """A linear map without its module's ways; None where it is none, or one that does more."""
    if type(module) in MAPS:
        weight, bias = cast(Any, module).weight, cast(Any, module).bias
        plain = type(weight) in (Tensor, nn.Parameter)  # a shard of a weight is neither
        return backend.prepared(weight, bias) if plain else None
    return getattr(module, "product", None)


def _parts(layer: Layer) -> _Parts:
    maps = [None if one is None else map_of(one) for one in maps_of(layer)]
    qkv, output, query, cross_output, expand, contract = cast(list[Map], maps)
    cross: Any = layer.cross_attention
    over = None if cross is None else _Cross(query, cross_output, _norm(cross.norm))
    own, last = _norm(layer.self_attention.norm), _norm(layer.feed_forward.norm)
    return _Parts(qkv, output, own, over, expand, contract, last)


def _norm(norm: nn.Module) -> Map:
    if type(norm) is not LayerNorm:
        return norm.forward
    shape, weight, bias, eps = norm.weight.shape, norm.weight, norm.bias, norm.eps
    return lambda rows: torch.layer_norm(rows, shape, weight, bias, eps)


def _form(allowed: Tensor | None, queries: int, keys: int, rows: Tensor) -> MaskForm:
    return MaskForm("none" if allowed is None else "dense", queries, keys, rows.device, allowed)


def _heads(rows: Tensor, batch: int, length: int, count: int) -> Tensor:
    """[B * T, heads * width] → [B, heads, T, width]."""
    return rows.view(batch, length, count, rows.shape[1] // count).transpose(1, 2)
