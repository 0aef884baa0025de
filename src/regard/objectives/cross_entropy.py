"""Cross-entropy of the next token with label smoothing (paper, section 5.4).

Shapes: states [N, d_model], weight [V, d_model], bias [V], labels [N], logits [N, V].

Logits of a batch are the largest tensor of a small model's step (N·V), so the fast path never
holds them: it takes chunks of rows, and makes the gradients of a chunk while its logits are there.
`plain_loss` is the formula.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regard.nn import backend
from regard.nn.native import operators
from regard.objectives.term import Term

CHUNK_BYTES = {"cpu": 10 * 2**20, "other": 256 * 2**20}
FEWEST_ROWS = 512
"""Logits held at once by the chunked path: on CPUs about what caches hold, but in rows enough
that adding up the weight's gradient costs little."""
WIDENED_BYTES = 2 * 2**20
"""Of narrow rows that are summed in a wider format: a CPU first copies them into that, and a copy
of all of [V, d_model] would be the step's largest tensor."""

Sums = tuple[Tensor, Tensor]


class CrossEntropy:
    """(1 - ε) · nll + ε · mean over the vocabulary of -log p, summed over the real target tokens.

    The form of `torch.nn.functional.cross_entropy`; the reference code spreads ε over the other
    V - 1 tokens instead, which is the same for an ε larger by ε/V.

    Args:
        label_smoothing: ε, 0 ≤ ε < 1.
    """

    reads = "pairs"
    decomposable = True
    terms = ("loss", "nll")

    def __init__(self, label_smoothing: float = 0.1) -> None:
        self.label_smoothing = check_smoothing(label_smoothing)

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Tokens to predict, from the mask alone."""
        tokens = float(batch["target_mask"][:, 1:].sum())
        return {"loss": tokens, "nll": tokens}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """Sums over the batch: ``loss``, and ``nll`` without smoothing, which is only watched.

        Args:
            model: gives ``features(source_ids, target_ids, source_mask=)`` and has a ``head``.
            batch: source_ids [B, S], source_mask [B, S], target_ids [B, T + 1] and
                target_mask [B, T + 1], start token first, end token last.
        """
        wanted = batch["target_mask"][:, 1:]  # [B, T], inputs that have a label
        states = cast(Any, model).features(
            batch["source_ids"],
            batch["target_ids"][:, :-1],
            source_mask=batch["source_mask"],
            target_mask=wanted if wanted.device.type == "cpu" else None,  # see regard.nn.rows
        )  # [B, T, d_model]
        real = wanted.flatten().nonzero()[:, 0]  # [N]
        labels = batch["target_ids"][:, 1:].flatten()[real]  # [N]
        states = states.flatten(0, 1).index_select(0, real)  # [N, d_model]
        head = cast(Any, model).head
        loss, nll = chunked_loss(states, head.weight, head.bias, labels, self.label_smoothing)
        count = float(len(labels))
        return {"loss": Term(loss, count), "nll": Term(nll, count, weight=0.0)}


def check_smoothing(label_smoothing: float) -> float:
    """The same.

    Raises:
        ValueError: it is no share of the probability.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label smoothing lies in [0, 1), not at {label_smoothing}")
    return label_smoothing


def plain_loss(
    states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, smoothing: float
) -> Sums:
    """The formula; see `chunked_loss`."""
    logits = F.linear(states, weight, bias)  # [N, V]
    statistics = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits.log_softmax(dim=-1, dtype=statistics)
    nll = -log_p.gather(1, labels[:, None]).sum()
    loss = (1.0 - smoothing) * nll - smoothing * log_p.mean(dim=-1).sum()
    return loss, nll.detach()


def chunked_loss(
    states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, smoothing: float
) -> Sums:
    """Smoothed and plain cross-entropy, summed, without ever holding all logits.

    Args:
        states: [N, d_model].
        weight: [V, d_model].
        bias: [V].
        labels: [N].
        smoothing: ε.

    Returns:
        Two scalars, float32 or wider: the smoothed sum, which has gradients, and the plain sum.
    """
    if torch.compiler.is_compiling():  # a compiler reads the formula, and fuses what it can
        return plain_loss(states, weight, bias, labels, smoothing)
    sums = _Chunked.apply(states, weight, bias, labels, smoothing)  # type: ignore[no-untyped-call]
    return cast(Sums, sums)


class _Chunked(torch.autograd.Function):
    """Gradients of a chunk are made in the forward pass; the backward pass only scales them.

    With p = softmax(logits) and y the label's one-hot row, the gradient of the loss by the logits
    is p - (1 - ε) y - ε/V. The last term is the same everywhere, and goes into the gradients of
    states and weight as a mean.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        smoothing: float,
    ) -> Sums:
        wide = torch.promote_types(states.dtype, torch.float32)
        at_once = CHUNK_BYTES.get(states.device.type, CHUNK_BYTES["other"])
        rows = max(FEWEST_ROWS, at_once // (weight.shape[0] * weight.itemsize))
        count = len(states)
        states, labels = _filled(states, labels, rows)
        by_states, by_weight, by_bias = _room(ctx, states, weight, bias, wide)
        nll = states.new_zeros((), dtype=wide)
        sum_log_z = torch.zeros_like(nll)
        room = states.new_empty(min(rows, len(states)), len(weight))
        for start in range(0, max(len(states), 1), rows):  # once at least, which writes zeros
            end = min(start + rows, len(states))
            part, wanted = states[start:end], labels[start:end]
            slopes, log_z, label_logits = _slopes(
                part, weight, bias, wanted, room[: end - start], 1.0 - smoothing
            )
            real = count - start
            nll += (log_z - label_logits)[:real].sum()
            sum_log_z += log_z[:real].sum()
            slopes[real:] = 0.0
            if by_states is not None:
                torch.mm(slopes, weight, out=by_states[start:end])
            if by_weight is not None:
                _add_product(by_weight, slopes, part, first=start == 0)
            if by_bias is not None:
                by_bias += _sum(slopes, wide)
        mean_row = _sum(weight, wide) / len(weight)  # [d_model]
        sum_states = _sum(states, wide)
        mean_logits = sum_states @ mean_row
        if bias is not None:
            mean_logits = mean_logits + bias.mean(dtype=wide) * count
        loss = nll * (1.0 - smoothing) + (sum_log_z - mean_logits) * smoothing
        if by_states is not None:
            by_states = by_states[:count].sub_((mean_row * smoothing).to(states.dtype))
        if by_weight is not None:
            by_weight.sub_(sum_states, alpha=smoothing / len(weight))
        if by_bias is not None:
            by_bias.sub_(count * smoothing / len(weight))
        ctx.save_for_backward(by_states, by_weight, by_bias)
        ctx.dtypes = (states.dtype, weight.dtype, weight.dtype if bias is None else bias.dtype)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        made = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if x is None else _scaled(x, scale, dtype) for x, dtype in made), None, None)


def _scaled(gradient: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """gradient · scale [n, …], rounded to ``dtype``."""
    if gradient.dtype == dtype:
        return gradient * scale
    found = torch.empty_like(gradient, dtype=dtype)
    for into, part in zip(_parts(found), _parts(gradient), strict=True):
        into.copy_(part * scale)
    return found


def _filled(states: Tensor, labels: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Zeros behind states and labels, where the last chunk should be longer: `backend.rounded`."""
    last = len(states) % rows
    more = min(backend.rounded(last, states.dtype), rows) - last
    if states.device.type != "cpu" or more == 0:
        return states, labels
    return F.pad(states, (0, 0, 0, more)), F.pad(labels, (0, more))


def _room(
    ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, wide: torch.dtype
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Room for the gradients that somebody wants, else None."""
    by_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
    by_weight = torch.empty_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
    wanted = bias is not None and ctx.needs_input_grad[2]
    by_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wanted else None
    return by_states, by_weight, by_bias


def _slopes(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    room: Tensor,
    share: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """softmax(logits) - share · one-hot(labels), [n, V]; log Z and the labels' logits, [n].

    The logits are made in ``room``, and overwritten where that saves a copy.
    """
    if bias is None:
        torch.mm(states, weight.t(), out=room)
    else:
        torch.addmm(bias, states, weight.t(), out=room)
    if operators.serve_training(room):
        return room, *operators.slopes(room, labels.contiguous(), share)
    wanted = labels[:, None]
    p, label_p, label_logits = _softmax(room, wanted)
    log_z = label_logits - label_p.log()
    lost = label_p < torch.finfo(p.dtype).smallest_normal
    if bool(lost.any()):
        log_z[lost] = F.linear(states[lost], weight, bias).to(log_z.dtype).logsumexp(dim=1)
    return _put(p, wanted, label_p[:, None] - share), log_z, label_logits


def _softmax(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax [n, V] of the logits; the labels' p and logits, [n].

    What stands in place of the labels' p is left open.

    log Z then comes from one entry, logit - log p, which saves a pass over the logits; rows whose
    label is so improbable that p is rounded to nothing are done again the long way. A probable
    label's own p is what the others leave: in bfloat16 0.998 and all above are one number, but
    the gradient is their distance from 1.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    label_logits = logits.gather(1, wanted).to(wide)
    in_place = logits if logits.device.type == "cpu" else None
    p = torch.softmax(logits, dim=1, out=in_place)
    label_p = p.gather(1, wanted).to(wide)
    if p.dtype != wide:
        others = _put(p, wanted, torch.zeros_like(label_p)).sum(dim=1, keepdim=True).to(wide)
        label_p = torch.where(label_p > 0.5, 1.0 - others, label_p)
    return p, label_p[:, 0], label_logits[:, 0]


def _put(p: Tensor, wanted: Tensor, values: Tensor) -> Tensor:
    """Write values [n, 1] into p [n, V] at the labels; by far faster than `scatter_`."""
    rows = torch.arange(len(p), device=p.device)
    return p.index_put_((rows, wanted[:, 0]), values[:, 0].to(p.dtype))


def _add_product(total: Tensor, p: Tensor, states: Tensor, *, first: bool) -> None:
    """total [V, d_model] += pᵀ [V, n] · states [n, d_model], summed in its dtype; ``first``: =."""
    if total.dtype == p.dtype:
        torch.addmm(total, p.t(), states, beta=int(not first), out=total)
    elif first:
        total.copy_(p.t() @ states)
    else:
        for part, more in zip(_parts(total), _parts(p.t() @ states), strict=True):
            part += more


def _sum(rows: Tensor, wide: torch.dtype) -> Tensor:
    """Of rows [n, d], in a wider format: [d]."""
    if rows.dtype == wide:
        return rows.sum(dim=0)
    first, *others = (part.sum(dim=0, dtype=wide) for part in _parts(rows))
    for more in others:
        first += more
    return first


def _parts(rows: Tensor) -> tuple[Tensor, ...]:
    """Rows in parts whose copies in a wider format are small; whole where none is made."""
    if rows.device.type != "cpu" or 4 * rows.numel() <= WIDENED_BYTES:
        return (rows,)
    return torch.split(rows, max(WIDENED_BYTES // (4 * rows[:1].numel()), 1))
