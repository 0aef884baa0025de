"""Losses of encoders that answer with classes or numbers.

Shapes: ids, mask, segments [B, T], pixels [B, C, H, W]; logits [B, C] or [B, T, C]; labels [B],
[B, T] or [B, C].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.objectives.cross_entropy import check_smoothing
from regard.objectives.term import Term

IGNORED = -100
"""A label that does not count."""


def answers(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    """What an encoder's head answers to a batch's texts or pictures."""
    names = ("mask", "segments")
    inputs = batch["pixels"] if "pixels" in batch else batch["ids"]
    return model(inputs, **{name: batch[name] for name in names if name in batch})


def wide(logits: Tensor) -> Tensor:
    """Losses are float32 or wider."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Classes:
    """Cross-entropy of a class, for each text, picture, or token that has a label.

    (Devlin et al., 2019, sections 4.1 and 5.3.) Where examples are mixed with others, a batch has
    the ``others``' labels and the ``share`` that is the example's own, and the loss is the mean of
    the two labels' by it (Zhang et al., 2018, section 2).

    Args:
        label_smoothing: ε, as in `CrossEntropy`.
    """

    reads = "labels"
    decomposable = True
    terms = ("loss", "nll", "error")
    scores = ("accuracy", "f1", "matthews", "top1", "top5")

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = check_smoothing(label_smoothing)

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Labels that count."""
        return dict.fromkeys(self.terms, float((batch["labels"] != IGNORED).sum()))

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """Sums over the batch: ``loss``; watched only, ``nll`` and ``error``, labels missed."""
        labels = batch["labels"].flatten()
        logits = wide(answers(model, batch)).flatten(0, -2)
        real = (labels != IGNORED).nonzero()[:, 0]
        labels, logits = labels[real], logits[real]
        loss = _mixed_loss(logits, labels, batch, self.label_smoothing)
        with torch.no_grad():
            nll = loss if not self.label_smoothing else _mixed_loss(logits, labels, batch, 0.0)
            error = (logits.argmax(dim=-1) != labels).sum().to(nll.dtype)
        count = float(len(labels))
        return {
            "loss": Term(loss, count),
            "nll": Term(nll.detach(), count, weight=0.0),
            "error": Term(error, count, weight=0.0),
        }


def _mixed_loss(
    logits: Tensor, labels: Tensor, batch: dict[str, Tensor], smoothing: float
) -> Tensor:
    """Summed over the batch; of mixed examples by both labels."""
    if "others" not in batch:
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    own, other = (
        F.cross_entropy(logits, one, reduction="none", label_smoothing=smoothing)
        for one in (labels, batch["others"])
    )
    share = batch["share"].to(own)
    return (share * own + (1.0 - share) * other).sum()


class MultiLabel:
    """Binary cross-entropy of each class by itself, their mean over the classes of a text."""

    reads = "labels"
    decomposable = True
    terms = ("loss",)
    scores = ("f1", "exact_match")

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Yes-or-no answers."""
        return {"loss": float(batch["labels"].numel())}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """The sum over the batch; labels [B, C] of 0 and 1."""
        logits, labels = wide(answers(model, batch)), batch["labels"]
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="sum")
        return {"loss": Term(loss, float(labels.numel()))}


class Regression:
    """Squared error of a number."""

    reads = "labels"
    decomposable = True
    terms = ("loss",)
    scores = ("pearson", "spearman")

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Numbers."""
        return {"loss": float(len(batch["labels"]))}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """The sum over the batch; labels [B]."""
        made, labels = wide(answers(model, batch))[:, 0], batch["labels"]
        loss = (made - labels.to(made)).square().sum()
        return {"loss": Term(loss, float(len(labels)))}
