"""The one door: from sources to hypotheses, whatever the strategy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.decoding.beam import beam_search
from regard.decoding.protocol import EncoderDecoder, Request, S, Stepper
from regard.decoding.spec import DecodingSpec, Hypothesis
from regard.decoding.walk import walk_search
from regard.errors import InputError
from regard.nn.modes import evaluating


@torch.inference_mode()
def search(
    model: EncoderDecoder[S],
    source_ids: Tensor,
    source_mask: Tensor | None,
    spec: DecodingSpec,
    *,
    start_id: int,
    end_id: int,
    prefix: Sequence[Sequence[int]] | None = None,
    forbidden: Sequence[int] = (),
    indices: Sequence[int] | None = None,
    max_positions: int | None = None,
) -> list[list[Hypothesis]]:
    """Decode a batch; each sentence's result is the same in any batch.

    Args:
        model: an encoder-decoder; decodes in evaluation mode.
        source_ids: ``[S, T]``.
        source_mask: ``[S, T]`` bool, True = real; None when all are.
        spec: settings.
        start_id: the token that every output starts from; it is never produced.
        end_id: the token that ends an output.
        prefix: for each sentence, tokens that its output must begin with.
        forbidden: tokens that are never produced (padding).
        indices: for each sentence, its number in the caller's whole input, on which the draws of
            ``sample`` depend; 0, 1, 2 … by default.
        max_positions: the longest output that the model can make.

    Returns:
        For each sentence, ``spec.nbest`` hypotheses, best first, in the order of the input.

    Raises:
        InputError: when a prefix leaves no room or has an end token.
        RegardError: when the model's logits are not numbers.
    """
    if len(source_ids) == 0:
        return []
    with evaluating(model):
        request = make_request(
            source_ids,
            source_mask,
            spec,
            marks=(start_id, end_id),
            prefix=prefix,
            forbidden=forbidden,
            indices=indices,
            max_positions=max_positions,
        )
        state = model.start(source_ids, source_mask=source_mask, width=spec.width)
        first = torch.full((len(source_ids), 1), start_id, device=source_ids.device)
        return continue_from(model, state, first, spec, request)


@torch.inference_mode()
def continue_from(
    model: Stepper[S], state: S, first: Tensor, spec: DecodingSpec, request: Request
) -> list[list[Hypothesis]]:
    """Decode from a state, whatever the model's family.

    Args:
        model: steps from the state.
        state: with ``spec.width`` rows for each sentence.
        first: ``[S, n]`` tokens to feed before the output.
        spec: settings.
        request: what is asked of each sentence; a decoder-only model's prompts are its prefixes.
    """
    decode = beam_search if spec.strategy == "beam" else walk_search
    return decode(model, state, first, spec, request)


def make_request(
    source_ids: Tensor,
    source_mask: Tensor | None,
    spec: DecodingSpec,
    *,
    marks: tuple[int, int],
    prefix: Sequence[Sequence[int]] | None = None,
    forbidden: Sequence[int] = (),
    indices: Sequence[int] | None = None,
    max_positions: int | None = None,
) -> Request:
    """What is asked of each sentence of a batch; ``marks`` are the start and the end token.

    Raises:
        InputError: when prefixes or indices are not one a sentence.
    """
    count, length = source_ids.shape
    lengths = [length] * count if source_mask is None else source_mask.sum(dim=1).tolist()
    longest = max_positions or max(map(spec.limit, lengths))
    for name, given in (("prefixes", prefix), ("indices", indices)):
        if given is not None and len(given) != count:
            raise InputError(f"{len(given)} {name} for {count} sentences")
    start_id, end_id = marks
    barred = {*forbidden, start_id} - {end_id}  # some models start from their end token
    return Request(
        end_id=end_id,
        limits=[min(spec.limit(length), longest) for length in lengths],
        prefixes=[list(one) for one in prefix] if prefix is not None else [[]] * count,
        indices=list(indices) if indices is not None else list(range(count)),
        forbidden=tuple(sorted(barred)),
    )
