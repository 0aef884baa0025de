"""Decoding by a stack that stands between an embedding and a head, step by step.

Shapes: tokens [R, n] with R = sentences * width, memory states [B, S, d_memory], logits [R, V].
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from regard.nn.attention import Attention
from regard.nn.cache import CACHES, DecodingState
from regard.nn.masks import Full
from regard.nn.residual import Residual
from regard.nn.stack import Layer, Map, Memory, Stack


def start(
    decoder: Stack, sentences: int, *, width: int, cache: str, memory: Memory | None = None
) -> DecodingState:
    """A state of ``width`` hypotheses of each sentence, which holds what the memory gives alone.

    Args:
        decoder: whose steps they will be.
        sentences: B.
        width: hypotheses of each.
        cache: a name of `CACHES`; a pattern of its own wants ``copy``.
        memory: what cross-attention reads, [B, S, d_memory].
    """
    kind = CACHES[cache if isinstance(decoder.pattern, Full) else "copy"]
    held = kind(len(decoder.layers), sentences, width, decoder.cache_dtype)
    if memory is None:
        return DecodingState(held)
    assert memory.states is not None
    held.set_memory([cross.project_memory(memory.states) for cross in _cross_attentions(decoder)])
    rows = held.spread(torch.arange(sentences, device=memory.states.device))
    return DecodingState(held, memory.mask.select(rows))


def step(
    decoder: Stack,
    embedding: Map,
    head: Map,
    tokens: Tensor,
    state: DecodingState,
    *,
    factor: float = 1.0,
) -> Tensor:
    """Logits [R, V] after tokens [R, n], the caller's to change; the state goes on by n.

    The head reads the decoder's states times ``factor``.
    """
    if decoder.fused is not None:
        logits = decoder.fused.logits(embedding, head, tokens, state, factor)
        if logits is not None:
            return logits
    ids, positions, seen = state.cache.open(tokens)
    states = decoder(
        embedding(ids),
        mask=seen,
        memory=Memory(None, state.memory_mask) if state.cache.memory_length else None,
        positions=positions,
        cache=state.cache,
    )
    return head(state.cache.close(states) * factor)


def _cross_attentions(decoder: Stack) -> list[Attention]:
    residuals = (cast(Layer, layer).cross_attention for layer in decoder.layers)
    return [cast(Attention, cast(Residual, one).sublayer) for one in residuals]
