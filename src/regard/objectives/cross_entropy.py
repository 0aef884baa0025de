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

from regard.objectives.term import Term

CHUNK_ELEMENTS = 4 * 2**20
"""Logits held at once by the chunked path."""

Sums = tuple[Tensor, Tensor]


class CrossEntropy:
    """(1 - ε) · nll + ε · mean over the vocabulary of -log p, summed over the real target tokens.

    The form of `torch.nn.functional.cross_entropy`; the reference code spreads ε over the other
    V - 1 tokens instead, which is the same for an ε larger by ε/V.

    Args:
        label_smoothing: ε, 0 ≤ ε < 1.
    """

    decomposable = True

    def __init__(self, label_smoothing: float = 0.1) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label smoothing lies in [0, 1), not at {label_smoothing}")
        self.label_smoothing = label_smoothing

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
        states = cast(Any, model).features(
            batch["source_ids"], batch["target_ids"][:, :-1], source_mask=batch["source_mask"]
        )  # [B, T, d_model]
        real = batch["target_mask"][:, 1:].flatten().nonzero()[:, 0]  # [N]
        labels = batch["target_ids"][:, 1:].flatten()[real]  # [N]
        states = states.flatten(0, 1).index_select(0, real)  # [N, d_model]
        head = cast(Any, model).head
        loss, nll = chunked_loss(states, head.weight, head.bias, labels, self.label_smoothing)
        count = float(len(labels))
        return {"loss": Term(loss, count), "nll": Term(nll, count, weight=0.0)}


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
    sums = _Chunked.apply(states, weight, bias, labels, smoothing)  # type: ignore[no-untyped-call]
    return cast(Sums, sums)


class _Chunked(torch.autograd.Function):
    """Gradients of a chunk are made in the forward pass; the backward pass only scales them.

    With p = softmax(logits) and y the label's one-hot row, the gradient of the loss by the logits
    is p - (1 - ε) y - ε/V. Only p is a full matrix: the other two go into the gradients of states
    and weight as a gathered row and a mean.
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
        mean_row = weight.mean(dim=0, dtype=wide)  # [d_model]
        mean_bias = 0.0 if bias is None else bias.mean(dtype=wide)
        by_states, by_weight, by_bias = _empty_gradients(ctx, states, weight, bias, wide)
        loss, nll = states.new_zeros((), dtype=wide), states.new_zeros((), dtype=wide)
        rows = max(1, CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, len(states), rows):
            part, wanted = states[start : start + rows], labels[start : start + rows, None]
            logits = F.linear(part, weight, bias)  # [rows, V]
            label_logits = logits.gather(1, wanted)[:, 0].to(wide)
            top = logits.amax(dim=1).to(wide)
            p = torch.softmax(logits, dim=1)
            log_z = top - p.amax(dim=1).to(wide).log()  # p of the top logit is at least 1/V
            nll += (log_z - label_logits).sum()
            loss += (log_z - (part.to(wide) @ mean_row + mean_bias)).sum() * smoothing
            if by_states is not None:
                at_label = weight.index_select(0, wanted[:, 0]).to(wide)
                gradient = (p @ weight).to(wide) - at_label * (1.0 - smoothing)
                by_states[start : start + rows] = gradient - mean_row * smoothing
            if by_weight is not None:
                by_weight += p.t() @ part
            if by_bias is not None:
                by_bias += p.sum(dim=0, dtype=wide)
        loss += nll * (1.0 - smoothing)
        if by_weight is not None:
            by_weight.index_add_(0, labels, states.to(wide), alpha=smoothing - 1.0)
            by_weight -= states.sum(dim=0, dtype=wide) * (smoothing / len(weight))
            by_weight = by_weight.to(weight.dtype)
        if by_bias is not None:
            ones = torch.ones_like(labels, dtype=wide)
            by_bias.index_add_(0, labels, ones, alpha=smoothing - 1.0)
            by_bias -= len(labels) * smoothing / len(weight)
        ctx.save_for_backward(by_states, by_weight, by_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.saved_tensors
        return (*(None if x is None else x * scale.to(x.dtype) for x in made), None, None)


def _empty_gradients(
    ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, wide: torch.dtype
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Room for the gradients that somebody wants, else None."""
    by_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
    by_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
    wanted = bias is not None and ctx.needs_input_grad[2]
    by_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wanted else None
    return by_states, by_weight, by_bias
