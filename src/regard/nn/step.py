"""A step of decoding, the same for every family with a cache: tokens in, logits out.

Shapes: tokens [R, n] with R = sentences * width, states [rows, T, d_model], logits [R, V].
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from regard.nn.cache import DecodingState
from regard.nn.stack import Memory, Stack


def decode_step(
    embedding: nn.Module, stack: Stack, head: nn.Module, tokens: Tensor, state: DecodingState
) -> Tensor:
    """Feed tokens, and say what comes next.

    Args:
        embedding: of the tokens.
        stack: the decoder's layers.
        head: from states to logits.
        tokens: [R, n], n > 1 for a prefix.
        state: goes on by n.

    Returns:
        Logits [R, V] after the last token, the caller's to change.
    """
    if stack.fused_step is not None:
        logits = stack.fused_step.logits(embedding, head, tokens, state)
        if logits is not None:
            return logits
    cache = state.cache
    ids, positions, seen = cache.open(tokens)
    memory = None if cache.layers[0].memory is None else Memory(None, state.memory_mask)
    states = stack(embedding(ids), mask=seen, memory=memory, positions=positions, cache=cache)
    return cast(Tensor, head(cache.close(states)))
