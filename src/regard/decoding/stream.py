"""Tokens as they are made, for whoever shows them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from regard.decoding.protocol import EncoderDecoder, Request, S, Stepper
from regard.decoding.search import make_request
from regard.decoding.spec import DecodingSpec
from regard.decoding.walk import walk
from regard.errors import RegardError
from regard.nn.modes import evaluating


def stream(
    model: EncoderDecoder[S],
    source_ids: Tensor,
    source_mask: Tensor | None,
    spec: DecodingSpec,
    *,
    start_id: int,
    end_id: int,
    prefix: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    max_positions: int | None = None,
) -> Iterator[int]:
    """The output's tokens one by one, without the prefix and the end token.

    The arguments are those of :func:`regard.decoding.search.search`, for one sentence ``[1, T]``.

    Raises:
        RegardError: for a beam or several samples, whose tokens are not settled before the end.
    """
    check_streamable(spec, len(source_ids))
    request = make_request(
        source_ids,
        source_mask,
        spec,
        marks=(start_id, end_id),
        prefix=[prefix],
        forbidden=forbidden,
        max_positions=max_positions,
    )
    with evaluating(model), torch.inference_mode():
        state = model.start(source_ids, source_mask=source_mask, width=1)
        first = torch.full((1, 1), start_id, device=source_ids.device)
    yield from stream_from(model, state, first, spec, request)


def stream_from(
    model: Stepper[S], state: S, first: Tensor, spec: DecodingSpec, request: Request
) -> Iterator[int]:
    """The same from a state of one row, whatever the model's family."""
    check_streamable(spec, len(request.limits))
    steps = walk(model, state, first, spec, request)
    while True:
        with evaluating(model):  # not across the yield: the caller may train meanwhile
            produced = next(steps, None)
        if produced is None:
            return
        for one in produced:
            if one.token != request.end_id:
                yield one.token


def check_streamable(spec: DecodingSpec, sentences: int) -> None:
    """Raise RegardError unless each token is settled when it is made."""
    if spec.strategy == "beam" or spec.width > 1 or sentences != 1:
        raise RegardError(
            "only one greedy or sampled output can be streamed",
            where="decoding.strategy",
            hint='set decoding.strategy = "greedy" or "sample", and nbest = 1',
        )
