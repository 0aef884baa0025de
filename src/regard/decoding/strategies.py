"""Which token comes next: small pure functions over logits.

Shapes: R rows, V tokens of the vocabulary, n tokens so far.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regard.decoding.spec import DecodingSpec
from regard.nn import native
from regard.nn.native import operators

BLOCKS = 16  # rows are cut into so many pieces, whose maxima say where the top k can be
BLOCKS_FROM = 1 << 17  # logits from which that is faster (measured: 10,000 to 32,000 columns)


def temperature(logits: Tensor, value: float) -> Tensor:
    """Logits ``[R, V]`` divided by the temperature: below 1 sharper, above 1 flatter."""
    return logits / value


def top_k(logits: Tensor, k: int) -> Tensor:
    """Everything below a row's k-th largest logit becomes -inf; what equals it stays."""
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, float("-inf"))


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the likeliest tokens until their probabilities sum to p (Holtzman et al. 2020).

    The likeliest token always stays.
    """
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # the sum without the token itself
    dropped = before >= p
    dropped[:, 0] = False
    return logits.masked_fill(dropped.scatter(1, ids, dropped), float("-inf"))


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as likely as the likeliest (Nguyen et al. 2024)."""
    least = logits.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < least, float("-inf"))


def repetition_penalty(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Make tokens of the row's history ``[R, n]`` less likely (Keskar et al. 2019, section 4.1).

    A positive logit is divided by the penalty, a negative one multiplied, as all systems do.
    """
    seen = logits.gather(1, history)
    return logits.scatter(1, history, torch.where(seen > 0, seen / penalty, seen * penalty))


def shape(logits: Tensor, spec: DecodingSpec) -> Tensor:
    """The logits to draw from: temperature, then top-k, top-p and min-p, in this order."""
    if spec.temperature != 1.0:
        logits = temperature(logits, spec.temperature)
    if spec.top_k > 0:
        logits = top_k(logits, spec.top_k)
    if spec.top_p < 1.0:
        logits = top_p(logits, spec.top_p)
    return min_p(logits, spec.min_p) if spec.min_p > 0.0 else logits


def forbid(logits: Tensor, barred: Tensor) -> Tensor:
    """The columns ``barred`` of ``[R, V]`` become -inf."""
    return logits.index_fill(1, barred, float("-inf"))


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row, ``[R]``; of equals the one with the lowest id."""
    return logits.max(dim=-1).indices


def sample(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a token for each row from softmax(logits), ``[R]``, by inverting the distribution.

    Args:
        logits: ``[R, V]``.
        uniforms: ``[R]`` float64 numbers in [0, 1), from :func:`streams`; one a row, so that a
            row's token depends on no other row.
    """
    reached = logits.double().softmax(dim=-1).cumsum(dim=-1)
    wanted = uniforms[:, None] * reached[:, -1:]
    drawn = torch.searchsorted(reached, wanted, right=True)  # the first that passes it
    return drawn.squeeze(1).clamp_max(logits.shape[-1] - 1)


def streams(seed: int, indices: list[int], width: int, steps: int) -> Tensor:
    """Random numbers for :func:`sample`, ``[sentences * width, steps]`` float64 on the CPU.

    Each is a function of (seed, the sentence's index, the sample's number, the step) alone: a
    sentence draws the same whatever stands beside it in the batch.
    """
    generator = torch.Generator()
    rows = []
    for index in indices:
        for place in range(width):
            generator.manual_seed(_mix(seed, index, place))
            rows.append(torch.rand(steps, generator=generator, dtype=torch.float64))
    # a number that rounds up to 1 with its row's sum would draw a token of probability 0
    return torch.stack(rows) * (1 - 1e-12)


def _mix(*numbers: int) -> int:
    """One well-spread 63-bit number out of several (splitmix64's finalizer)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def best(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest logits of each row and their tokens, both ``[R, k]``, largest first; exact.

    Equal ones stand by their tokens on a CPU, the lowest first, as in C++: in bfloat16 many are.

    Large inputs go by way of block maxima: the k largest stand in the k blocks with the largest
    maxima, so that a full pass is needed for maxima alone, which is much cheaper than a selection.
    """
    if k == 1:  # on CPUs three times as fast as argmax and topk
        top = logits.max(dim=-1, keepdim=True)
        return top.values, top.indices
    rows, vocabulary = logits.shape
    count = vocabulary // BLOCKS
    if logits.device.type != "cpu":
        values, ids = logits.topk(k, dim=-1)
        return values, ids
    if logits.numel() < BLOCKS_FROM or count < 4 * k:
        return _settled(logits, *logits.topk(k, dim=-1))
    # block j holds the columns j, j + count, …: the maxima of all blocks are one vectorized pass
    grid = logits[:, : count * BLOCKS].view(rows, BLOCKS, count)
    blocks = grid.amax(dim=1).topk(k, dim=-1, sorted=False).indices  # [R, k]
    places = torch.arange(BLOCKS)[:, None] * count
    columns = (places + blocks[:, None, :]).flatten(1)  # [R, BLOCKS * k]
    tail = torch.arange(count * BLOCKS, vocabulary).expand(rows, -1)
    columns = torch.cat([columns, tail], dim=1)
    values, found = logits.gather(1, columns).topk(k, dim=-1)
    return _settled(logits, values, columns.gather(1, found))


def _settled(logits: Tensor, values: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The k largest with equal ones in the order of their tokens."""
    k = values.shape[1]
    more = (logits >= values[:, -1:]).sum(dim=1) > k  # as large as the last, and left out
    if bool(more.any()):
        ids[more] = logits[more].sort(dim=1, descending=True, stable=True).indices[:, :k]
        values = logits.gather(1, ids)
    ids = ids.sort(dim=1).values
    values, order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True)
    return values, ids.gather(1, order)


def log_normalizer_(logits: Tensor) -> Tensor:
    """ln Σ exp(logits) of each row, ``[R]``; spends the logits, which saves the memory traffic."""
    top = logits.amax(dim=-1, keepdim=True)
    return top.squeeze(1) + logits.sub_(top).exp_().sum(dim=-1).log_()


def best_logprobs(logits: Tensor, k: int, barred: Tensor) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each row that are not barred, with log-probabilities.

    Barred tokens keep their share of the probability, as in all systems. No log-softmax over the
    vocabulary is made: the normalizer alone does. Spends the logits.

    Args:
        logits: ``[R, V]``.
        k: at most V are given.
        barred: tokens, ``[n]`` int64.

    Returns:
        ``[R, k]`` log-probabilities, largest first, float32 at least, and ``[R, k]`` tokens.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    plain = logits.dtype == torch.float32 and logits.device.type == "cpu"
    if native.loaded() and plain and logits.is_contiguous():
        k = min(k, logits.shape[-1])
        return operators.best_logprobs(logits, k, barred)
    held = logits.index_select(1, barred)
    logits.index_fill_(1, barred, float("-inf"))
    values, ids = best(logits, min(k, logits.shape[-1]))
    normalizer = log_normalizer_(logits.index_copy_(1, barred, held))
    return values - normalizer[:, None], ids
