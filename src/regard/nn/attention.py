"""Multi-head attention (paper, section 3.2.2), of a sequence to itself or to a memory.

Shapes: states [B, T, d_model], memory [B, S, d_memory], query [B, H, T, d_key],
key [B, Hkv, T or S, d_key], value [B, Hkv, T or S, d_value].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.errors import RecipeError
from regard.nn import kernels
from regard.nn.cache import LayerCache
from regard.nn.linear import Linear, SplitLinear
from regard.nn.masks import Full, MaskForm, Rule, prepare
from regard.nn.positions.scheme import PositionScheme
from regard.nn.rows import Rows
from regard.spec import Fraction, KindSpec, Positive


@dataclass(frozen=True)
class PatternSpec(KindSpec):
    """Which keys a layer's queries may see at all, whatever the batch: ``"full"``."""

    group = "patterns"
    kind: str = "full"

    def rule(self) -> Rule:
        """The mask rule of the pattern."""
        found, options = self.resolve()
        return cast(Rule, found() if options is None else found(options))


@dataclass(frozen=True)
class AttentionSpec:
    """Settings of an attention layer.

    Attributes:
        num_heads: H, heads of the queries.
        num_kv_heads: Hkv, heads of keys and values; None = as many as the queries have.
        d_key: width of a head's queries and keys; None = d_model / num_heads.
        d_value: width of a head's values; None = d_model / num_heads.
        pattern: which keys may be seen, joined with the mask of the batch.
        scale: of the scores; None = 1/√d_key.
        bias: whether the projections have one.
        dropout: of the attention weights.
    """

    num_heads: Positive = 8
    num_kv_heads: Positive | None = None
    d_key: Positive | None = None
    d_value: Positive | None = None
    pattern: PatternSpec = PatternSpec()
    scale: float | None = None
    bias: bool = True
    dropout: Fraction = 0.0

    def widths(self, d_model: int) -> tuple[int, int]:
        """d_key and d_value in a model of width ``d_model``.

        Raises:
            RecipeError: when they are not given and the heads don't divide ``d_model``.
        """
        if self.num_heads % self.kv_heads:
            raise RecipeError(
                f"{self.kv_heads} key/value heads do not divide {self.num_heads} heads",
                where="attention.num_kv_heads",
            )
        if (self.d_key is None or self.d_value is None) and d_model % self.num_heads:
            raise RecipeError(
                f"{self.num_heads} heads do not divide d_model = {d_model}",
                where="attention.num_heads",
                hint="choose a divisor, or give d_key and d_value",
            )
        d_head = d_model // self.num_heads
        return self.d_key or d_head, self.d_value or d_head

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads


@dataclass(frozen=True, eq=False)
class AttentionContext:
    """What a stack prepares once and its layers only read.

    Attributes:
        mask: where attention may go, in the kernels' form.
        positions: the scheme whose doors queries, keys and scores pass; None in cross-attention.
        turning: what the scheme's `turn` needs.
        bias: on the scaled scores, [B or 1, H or 1, Tq, Tk].
        relation: what the scheme's tables need, [B or 1, 1, Tq, Tk].
        rows: where the tokens stand, if states come without padding, as [1, N, d_model].
        memory_rows: the same of the memory.
    """

    mask: MaskForm
    positions: PositionScheme | None = None
    turning: Any = None
    bias: Tensor | None = None
    relation: Tensor | None = None
    rows: Rows | None = None
    memory_rows: Rows | None = None


class Attention(nn.Module):
    """softmax(QKᵀ/√d_key) V in ``num_heads`` heads, from projections of the states.

    One module for both uses: queries, keys and values come from one product (`qkv`) when a
    sequence attends to itself; with ``d_memory``, queries come from the states (`query`), keys
    and values from the memory (`key_value`). A position scheme may add tables of its own. Weights
    are Glorot-uniform for each projection, biases zero, as in the paper's reference code.
    """

    def __init__(
        self,
        spec: AttentionSpec,
        d_model: int,
        *,
        d_memory: int | None = None,
        positions: PositionScheme | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.d_key, self.d_value = spec.widths(d_model)
        queries = spec.num_heads * self.d_key
        keys, values = spec.kv_heads * self.d_key, spec.kv_heads * self.d_value
        if d_memory is None:
            parts = {"queries": queries, "keys": keys, "values": values}
            self.qkv = SplitLinear(d_model, parts, bias=spec.bias)
        else:
            self.query = Linear(d_model, queries, bias=spec.bias)
            self.key_value = SplitLinear(d_memory, {"keys": keys, "values": values}, bias=spec.bias)
        self.output = Linear(spec.num_heads * self.d_value, d_model, bias=spec.bias)
        own = (None, None) if positions is None else positions.tables(self.d_key, self.d_value)
        self.distance_keys, self.distance_values = own
        self.scale = self.d_key**-0.5 if spec.scale is None else spec.scale

    def forward(
        self,
        states: Tensor,
        context: AttentionContext | Rule | None = None,
        memory: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend from each position of ``states``.

        Args:
            states: [B, T, d_model].
            context: mask and positions, as a stack prepares them; alone, a mask rule such as
                ``Causal()`` does, or nothing where all is seen.
            memory: [B, S, d_memory]; not read where the cache holds its keys and values.
            cache: keys and values of earlier steps, which this call extends.

        Returns:
            [B, T, d_model].
        """
        if not isinstance(context, AttentionContext):
            keys = states if memory is None else memory
            rule = Full() if context is None else context
            form = prepare(rule, states.shape[1], keys.shape[1], device=states.device)
            context = AttentionContext(form)
        if hasattr(self, "qkv"):
            query, key, value = self._project_self(states, context)
            if cache is not None:
                key, value = cache.append(key, value)  # [B, Hkv, Tk, d]
        else:
            (query,) = _split([self.query(states)], [self.spec.num_heads], context.rows)
            key, value = self._memory_heads(query.dtype, memory, context, cache)
        mixed = self._attend(query, key, value, context)  # [B, H, T, d_value]
        if context.rows is None:
            merged = mixed.transpose(1, 2).flatten(2)  # [B, T, H * d_value]
        else:
            merged = context.rows.merge(mixed)  # [1, N, H * d_value]
        return cast(Tensor, self.output(merged))

    def project_memory(self, memory: Tensor, rows: Rows | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values [B, Hkv, S, d] of a memory [B, S, d_memory], once a sentence."""
        key, value = _split(self.key_value(memory), [self.spec.kv_heads] * 2, rows)
        return key, value

    def _project_self(
        self, states: Tensor, context: AttentionContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values = self.qkv(states)  # [B, T, heads * width] each
        counts = [self.spec.num_heads, self.spec.kv_heads, self.spec.kv_heads]
        if context.positions is None or context.turning is None:
            query, key, value = _split([queries, keys, values], counts, context.rows)
            return query, key, value
        # Values apart: beside them, queries and keys as they were would live as long as they do.
        query, key = _split([queries, keys], counts[:2], context.rows)
        (value,) = _split([values], counts[2:], context.rows)
        turn = partial(context.positions.turn, prepared=context.turning)
        return turn(query), turn(key), value

    def _memory_heads(
        self,
        dtype: torch.dtype,
        memory: Tensor | None,
        context: AttentionContext,
        cache: LayerCache | None,
    ) -> tuple[Tensor, Tensor]:
        if cache is not None and cache.memory is not None:
            key, value = (part.to(dtype) for part in cache.memory)
            return key, value
        assert memory is not None, "cross-attention needs a memory, or its keys in the cache"
        return self.project_memory(memory, context.memory_rows)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, context: AttentionContext
    ) -> Tensor:
        mask, bias = context.mask, context.bias
        if self.distance_keys is not None:
            own = self.distance_keys(query * self.scale, context.relation)  # [B, H, Tq, Tk]
            bias = own if bias is None else bias + own
        dropout = self.spec.dropout if self.training else 0.0
        term = None
        if self.distance_values is not None:
            term = partial(self.distance_values, relation=context.relation)
        if term is not None or kernels.observed():
            kernel: kernels.Kernel = partial(kernels.attend_openly, self, term)
        else:
            kernel = kernels.choose(query, key, bias=bias)
        return kernel(query, key, value, mask=mask, scale=self.scale, dropout=dropout, bias=bias)


def _split(parts: Sequence[Tensor], counts: Sequence[int], rows: Rows | None) -> tuple[Tensor, ...]:
    """Each [B, T, heads * width], or [1, N, …] under ``rows``, → [B, heads, T, width]."""
    if rows is not None:
        return rows.heads(parts, counts)
    batch, length, _ = parts[0].shape
    pairs = zip(parts, counts, strict=True)
    shaped = [part.view(batch, length, count, part.shape[-1] // count) for part, count in pairs]
    return tuple(part.transpose(1, 2) for part in shaped)
