"""Greedy search and sampling: each row goes its own way, token by token.

Shapes: R rows in the batch, V tokens of the vocabulary, n tokens so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from regard.decoding import strategies
from regard.decoding.finished import hypothesis
from regard.decoding.protocol import Request, S, Stepper, leave
from regard.decoding.spec import DecodingSpec, Hypothesis


class Produced(NamedTuple):
    """One generated token.

    Attributes:
        row: sentence * width + the sample's number, of the request.
        token: its id; the end token too.
        logprob: the model's log-probability of it, whatever shaped the draw.
    """

    row: int
    token: int
    logprob: float


@dataclass(frozen=True)
class Paths:
    """The rows in the batch.

    Attributes:
        sentences: which of the request's sentences each is; ``width`` rows stand for each.
        history: ``[R, n]`` tokens.
        forced: ``[R, longest]``, the request's prefixes.
        uniforms: ``[R, steps]`` random numbers, or ``[R, 0]`` where nothing is drawn.
    """

    sentences: list[int]
    width: int
    history: Tensor
    forced: Tensor
    uniforms: Tensor

    @property
    def length(self) -> int:
        """n, tokens so far."""
        return self.history.shape[1]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.history.device

    def rows(self) -> list[int]:
        """The request's number of each row."""
        return [s * self.width + place for s in self.sentences for place in range(self.width)]

    def select(self, places: Tensor) -> Paths:
        """Only these sentences of the batch."""
        within = torch.arange(self.width, device=places.device)
        rows = (places[:, None] * self.width + within).flatten()
        return Paths(
            [self.sentences[place] for place in places.tolist()],
            self.width,
            self.history[rows],
            self.forced[rows],
            self.uniforms[rows],
        )

    def append(self, tokens: Tensor) -> Paths:
        """Each row one token longer."""
        history = torch.cat([self.history, tokens[:, None]], dim=1)
        return Paths(self.sentences, self.width, history, self.forced, self.uniforms)


@torch.inference_mode()
def walk(
    model: Stepper[S], state: S, first: Tensor, spec: DecodingSpec, request: Request
) -> Iterator[list[Produced]]:
    """Generate, and give each step's tokens of the rows that are not finished.

    The arguments are those of :func:`regard.decoding.beam.beam_search`.
    """
    paths = begin(spec, request, first.device)
    rows, width = paths.rows(), spec.width
    closed = [False] * len(rows)
    early, late = request.barred(first.device)
    longest = request.longest
    fed = torch.cat([first.repeat_interleave(width, dim=0), paths.history], dim=1)
    while True:
        logits = model.step(fed, state)  # [R, V]
        barred = early if paths.length < spec.min_length else late
        tokens, logprobs = pick(logits, paths, spec, barred)
        if paths.length < longest:
            wanted = paths.forced[:, paths.length]
            tokens = torch.where(wanted >= 0, wanted, tokens)
        paths = paths.append(tokens)
        length = paths.length
        read = zip(rows, tokens.tolist(), logprobs.tolist(), strict=True)  # waits for the device
        produced = [Produced(*one) for one in read if not closed[one[0]]]
        if length <= longest:  # what a prefix forced is no news
            produced = [o for o in produced if length > len(request.prefixes[o.row // width])]
        for row, token, _ in produced:
            closed[row] = token == request.end_id or length >= request.limits[row // width]
        yield produced
        staying = leave(state, paths, [all(closed[row : row + width]) for row in rows[::width]])
        if not staying.sentences:
            return
        if staying is not paths:
            paths, rows = staying, staying.rows()
        fed = paths.history[:, -1:]


def begin(spec: DecodingSpec, request: Request, device: torch.device) -> Paths:
    """All rows, each with its part of the prefix that all sentences have."""
    count, width = len(request.prefixes), spec.width
    uniforms = torch.empty(count * width, 0)
    if spec.strategy == "sample":
        uniforms = strategies.streams(spec.seed, request.indices, width, max(request.limits))
    forced = request.forced(device).repeat_interleave(width, dim=0)
    history = forced[:, : request.common]
    return Paths(list(range(count)), width, history, forced, uniforms.to(device))


def pick(logits: Tensor, paths: Paths, spec: DecodingSpec, barred: Tensor) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-probability, both ``[R]``; spends the logits."""
    if spec.repetition_penalty != 1.0:
        penalty = spec.repetition_penalty
        logits = strategies.repetition_penalty(logits, paths.history, penalty)
    if spec.strategy != "sample":
        logprobs, tokens = strategies.best_logprobs(logits, 1, barred)
        return tokens[:, 0], logprobs[:, 0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    shaped = strategies.shape(strategies.forbid(logits, barred), spec)
    tokens = strategies.sample(shaped, paths.uniforms[:, paths.length])
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    return tokens, chosen - strategies.log_normalizer_(logits)


def walk_search(
    model: Stepper[S], state: S, first: Tensor, spec: DecodingSpec, request: Request
) -> list[list[Hypothesis]]:
    """The greedy output, or ``nbest`` samples (best first), of each sentence."""
    width = spec.width
    texts = [list(prefix) for prefix in request.prefixes for _ in range(width)]
    logprobs = [0.0] * len(texts)
    finished = [False] * len(texts)
    for produced in walk(model, state, first, spec, request):
        for one in produced:
            logprobs[one.row] += one.logprob
            finished[one.row] = one.token == request.end_id
            if not finished[one.row]:
                texts[one.row].append(one.token)
    results = []
    for sentence, prefix in enumerate(request.prefixes):
        rows = range(sentence * width, (sentence + 1) * width)
        found = []
        for row in rows:
            generated = len(texts[row]) - len(prefix) + finished[row]
            penalty = spec.length_penalty(generated)
            found.append(hypothesis(texts[row], logprobs[row], penalty, finished=finished[row]))
        results.append(sorted(found, key=lambda one: (not one.finished, -one.score)))
    return results
