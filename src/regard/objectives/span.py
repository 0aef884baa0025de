"""The loss of a span: where it begins and where it ends (Devlin et al., 2019, section 4.2).

Shapes: ids, mask [B, T]; logits [B, T, 2]; labels [B, 2].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.objectives.classes import answers, wide
from regard.objectives.term import Term


class Span:
    """Cross-entropy of the first and of the last token, their mean; padding takes no part.

    What is not answered has its span at the start token.
    """

    reads = "answers"
    decomposable = True
    terms = ("loss", "error")

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Windows."""
        return dict.fromkeys(self.terms, float(len(batch["labels"])))

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """Sums over the batch: ``loss``; watched only, ``error``, spans missed."""
        labels = batch["labels"]
        logits = span_logits(answers(model, batch), batch["mask"])  # [B, 2, T]
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / 2
        with torch.no_grad():
            error = (logits.argmax(dim=-1) != labels).any(dim=1).sum().to(loss.dtype)
        count = float(len(labels))
        return {"loss": Term(loss, count), "error": Term(error, count, weight=0.0)}


def span_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """[B, T, 2] → [B, 2, T], float32 or wider, -inf at padding."""
    return wide(logits).transpose(1, 2).masked_fill(~mask[:, None], float("-inf"))
