"""Any number of sentences: sorted by length, cut into batches, given back in their order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from regard.decoding.protocol import EncoderDecoder, S
from regard.decoding.search import search
from regard.decoding.spec import DecodingSpec, Hypothesis
from regard.errors import RegardError
from regard.nn.packing import packed

PACK_FROM = 64
"""Sentences from which packing the weights costs less than it saves."""


def search_many(
    model: EncoderDecoder[S],
    examples: Sequence[Sequence[int]],
    spec: DecodingSpec,
    *,
    start_id: int,
    end_id: int,
    pad_id: int,
    batch_tokens: int = 4096,
    prefix: Sequence[Sequence[int]] | None = None,
    forbidden: Sequence[int] = (),
    indices: Sequence[int] | None = None,
    max_positions: int | None = None,
) -> list[list[Hypothesis]]:
    """Decode sources of any number and length; the batches change nothing but the speed.

    Args:
        model: an encoder-decoder.
        examples: source ids of each sentence.
        spec: settings.
        start_id: the token that every output starts from.
        end_id: the token that ends an output.
        pad_id: fills the shorter sources; never produced, also where it is the likeliest token, as
            transformers bars it only where a generation config says so.
        batch_tokens: the most tokens of a batch's sources, padding and hypotheses counted.
        prefix: for each sentence, tokens that its output must begin with.
        forbidden: further tokens that are never produced.
        indices: for each sentence, its number in a larger input of which these are a part; the
            draws of ``sample`` depend on it.
        max_positions: the longest output that the model can make.

    Returns:
        For each sentence, ``spec.nbest`` hypotheses, best first, in the order of ``examples``.
    """
    results: list[list[Hypothesis]] = [[] for _ in examples]
    budget = max(1, batch_tokens // spec.width)
    with _packed(model, len(examples)):
        for places in batches([len(example) for example in examples], budget):
            ids, mask = pad([examples[place] for place in places], pad_id, device_of(model))
            found = search(
                model,
                ids,
                mask,
                spec,
                start_id=start_id,
                end_id=end_id,
                prefix=None if prefix is None else [prefix[place] for place in places],
                forbidden=[*forbidden, pad_id],
                indices=places if indices is None else [indices[place] for place in places],
                max_positions=max_positions,
            )
            for place, hypotheses in zip(places, found, strict=True):
                results[place] = hypotheses
    return results


def _packed(model: object, sentences: int) -> AbstractContextManager[None]:
    if isinstance(model, nn.Module) and sentences >= PACK_FROM:
        return packed(model)
    return nullcontext()


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in batches of at most ``budget`` tokens, padding included; the longest first.

    A sentence longer than the budget stands alone.
    """
    if budget < 1:
        raise RegardError("a batch needs at least one token", where="batch_tokens")
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])  # stable
    found: list[list[int]] = []
    for index in order:
        if found and (len(found[-1]) + 1) * max(1, lengths[found[-1][0]]) <= budget:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def pad(
    rows: list[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Rows of ids as one ``[B, T]`` tensor, padded on the right, and where it is real.

    None where it is so everywhere, so that no step asks again.
    """
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    ids = ids.to(device).reshape(len(rows), longest).long()
    if all(len(row) == longest for row in rows):
        return ids, None
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(longest) < lengths[:, None]).to(device)


def device_of(model: object) -> torch.device:
    """Where a model's parameters are."""
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            return parameter.device
    return torch.device("cpu")
