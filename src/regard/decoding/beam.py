"""Beam search: for each sentence, the ``beam`` likeliest open outputs go on, step by step.

Shapes: S sentences in the batch, ``beam`` places each, R = S * beam rows, C = 2 * beam candidates,
V tokens of the vocabulary, n tokens of the output so far.

Of the best C continuations of a sentence, those that end are finished if they are among the best
``beam``, and the best ``beam`` of the others go on (as fairseq and Hugging Face do). Open outputs
compare by log-probability, finished ones by score, the log-probability over the length penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.decoding.finished import Pool
from regard.decoding.protocol import Request, S, Stepper, leave
from regard.decoding.spec import DecodingSpec, Hypothesis
from regard.decoding.strategies import best_logprobs, repetition_penalty


@dataclass(frozen=True)
class Beams:
    """The open outputs of the sentences in the batch, a sentence's best first.

    Attributes:
        sentences: which of the request's sentences each is.
        history: ``[S, beam, n]`` tokens.
        logprobs: ``[S, beam]``, -inf where a place is empty.
        parents: ``[S, beam]``, the place that each went on from in the last step.
        forced: ``[S, longest]``, the request's prefixes.
    """

    sentences: list[int]
    history: Tensor
    logprobs: Tensor
    parents: Tensor
    forced: Tensor

    @property
    def length(self) -> int:
        """n, tokens so far."""
        return self.history.shape[2]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.history.device

    def rows(self) -> Tensor:
        """The row that each row goes on from, ``[R]``."""
        count, beam = self.parents.shape
        offsets = torch.arange(count, device=self.parents.device)[:, None] * beam
        return (offsets + self.parents).flatten()

    def select(self, places: Tensor) -> Beams:
        """Only these sentences of the batch."""
        return Beams(
            [self.sentences[place] for place in places.tolist()],
            self.history[places],
            self.logprobs[places],
            self.parents[places],
            self.forced[places],
        )


@dataclass(frozen=True)
class Candidates:
    """Continuations of each sentence, best first: all ``[S, C]``; ``parents`` are places."""

    logprobs: Tensor
    tokens: Tensor
    parents: Tensor


def beam_search(
    model: Stepper[S], state: S, first: Tensor, spec: DecodingSpec, request: Request
) -> list[list[Hypothesis]]:
    """The ``nbest`` best outputs that a beam finds for each sentence.

    Args:
        model: steps from the state.
        state: with ``spec.beam`` rows for each sentence.
        first: ``[S, n]`` tokens to feed before the output (the start token).
        spec: settings.
        request: what is asked of each sentence.
    """
    beams = begin(spec.beam, request, first.device)
    pools = [
        Pool(spec, limit, len(prefix))
        for limit, prefix in zip(request.limits, request.prefixes, strict=True)
    ]
    early, late = request.barred(first.device)
    fed = torch.cat([first, beams.history[:, 0]], dim=1).repeat_interleave(spec.beam, dim=0)
    while True:
        logits = model.step(fed, state)  # [R, V]
        if spec.repetition_penalty != 1.0:
            history = beams.history.flatten(0, 1)
            logits = repetition_penalty(logits, history, spec.repetition_penalty)
        barred = early if beams.length < spec.min_length else late
        candidates = expand(beams.logprobs, logits, barred)
        if beams.length < request.longest:
            candidates = force(beams, candidates)
        ending = candidates.tokens == request.end_id
        if bool(ending.any()):  # the step's one wait for the device
            finish(beams, candidates, ending, pools)
            candidates = set_back(candidates, ending)
        beams = survivors(beams, candidates)
        close(beams, pools, spec)
        beams = leave(state, beams, [pools[sentence].closed for sentence in beams.sentences])
        if not beams.sentences:
            return [pool.best() for pool in pools]
        state.advance(beams.rows())
        fed = beams.history[:, :, -1].flatten()[:, None]


def begin(beam: int, request: Request, device: torch.device) -> Beams:
    """Each sentence with one open output, its part of the prefix that all sentences have."""
    forced = request.forced(device)
    count = len(forced)
    logprobs = torch.full((count, beam), float("-inf"), device=device)
    logprobs[:, 0] = 0.0
    return Beams(
        sentences=list(range(count)),
        history=forced[:, None, : request.common].expand(-1, beam, -1),
        logprobs=logprobs,
        parents=torch.arange(beam, device=device).expand(count, -1),
        forced=forced,
    )


def expand(logprobs: Tensor, logits: Tensor, barred: Tensor) -> Candidates:
    """The best C continuations of each sentence's open outputs.

    A row's C best tokens are enough: what is not among them has C better ones before it. Equal
    ones stand in the order of their places.

    Args:
        logprobs: ``[S, beam]`` of the open outputs.
        logits: ``[R, V]``, spent by this call.
        barred: tokens that may not come.
    """
    count, beam = logprobs.shape
    values, ids = best_logprobs(logits, 2 * beam, barred)  # [R, k]
    k = values.shape[1]
    totals = (logprobs[:, :, None] + values.view(count, beam, k)).flatten(1)  # [S, beam * k]
    ordered, order = totals.sort(dim=1, descending=True, stable=True)
    chosen = order[:, : 2 * beam]
    tokens = ids.view(count, beam * k).gather(1, chosen)
    return Candidates(ordered[:, : 2 * beam], tokens, chosen // k)


def force(beams: Beams, candidates: Candidates) -> Candidates:
    """Where a sentence's prefix is longer than its output, each place goes on with its token."""
    wanted = beams.forced[:, beams.length, None]  # [S, 1]
    on = wanted >= 0
    beam = beams.logprobs.shape[1]
    places = torch.arange(2 * beam, device=wanted.device) % beam
    return Candidates(
        torch.where(on, beams.logprobs.repeat(1, 2), candidates.logprobs),
        torch.where(on, wanted, candidates.tokens),
        torch.where(on, places, candidates.parents),
    )


def finish(beams: Beams, candidates: Candidates, ending: Tensor, pools: list[Pool]) -> None:
    """Hand the candidates that end, and are among the best ``beam``, to their sentences' pools."""
    beam = beams.logprobs.shape[1]
    taken = ending & (candidates.logprobs != float("-inf"))
    taken[:, beam:] = False
    places, ranks = taken.nonzero(as_tuple=True)
    texts = beams.history[places, candidates.parents[places, ranks]].tolist()
    logprobs = candidates.logprobs[places, ranks].tolist()
    for place, text, logprob in zip(places.tolist(), texts, logprobs, strict=True):
        pools[beams.sentences[place]].finish(text, logprob)


def set_back(candidates: Candidates, ending: Tensor) -> Candidates:
    """The same with those that end behind all others: at least ``beam`` of the C don't."""
    order = ending.to(torch.uint8).sort(dim=1, stable=True).indices
    return Candidates(
        candidates.logprobs.gather(1, order),
        candidates.tokens.gather(1, order),
        candidates.parents.gather(1, order),
    )


def survivors(beams: Beams, candidates: Candidates) -> Beams:
    """The best ``beam`` candidates as the open outputs of the next step."""
    beam = beams.logprobs.shape[1]
    parents, tokens = candidates.parents[:, :beam], candidates.tokens[:, :beam]
    past = beams.history.gather(1, parents[:, :, None].expand(-1, -1, beams.length))
    history = torch.cat([past, tokens[:, :, None]], dim=2)  # [S, beam, n + 1]
    return Beams(beams.sentences, history, candidates.logprobs[:, :beam], parents, beams.forced)


def close(beams: Beams, pools: list[Pool], spec: DecodingSpec) -> None:
    """Close the sentences that have reached their limit or whose result is settled."""
    mine = [pools[sentence] for sentence in beams.sentences]
    if spec.stop in ("bound", "present") and any(pool.full and not pool.closed for pool in mine):
        for pool, best in zip(mine, beams.logprobs[:, 0].tolist(), strict=True):
            pool.settle(best, beams.length)
    for place, pool in enumerate(mine):
        if not pool.closed and beams.length >= pool.limit:
            pool.give_up(beams.history[place].tolist(), beams.logprobs[place].tolist())
