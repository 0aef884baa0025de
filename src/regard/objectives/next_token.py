"""Cross-entropy of the next token of a decoder-only model (Radford et al., 2018, equation 1).

Shapes: ids, documents, counted [B, T + 1], states [B, T, d_model].
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from regard.nn.masks import Documents
from regard.objectives.cross_entropy import check_smoothing, chunked_loss
from regard.objectives.term import Term


class NextToken:
    """-log p of each token after the first, given those before it in its document.

    The shift between inputs and labels is here and nowhere else.

    Args:
        label_smoothing: ε, as in `CrossEntropy`.
    """

    reads = "blocks"
    decomposable = True
    terms = ("loss", "nll")

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = check_smoothing(label_smoothing)

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Tokens to predict."""
        counted = batch.get("counted")
        held = batch["ids"].numel() - len(batch["ids"]) if counted is None else counted[:, 1:].sum()
        tokens = float(held)
        return {"loss": tokens, "nll": tokens}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """Sums over the batch: ``loss``, and ``nll`` without smoothing, which is only watched.

        Args:
            model: gives ``features(ids, mask=)`` and has a ``head``.
            batch: ids [B, T + 1]; where blocks hold several, documents [B, T + 1] too; where not
                every token is to be predicted, counted [B, T + 1], True = it is.
        """
        ids, documents = batch["ids"], batch.get("documents")
        mask = None if documents is None else Documents(documents[:, :-1])
        states = cast(Any, model).features(ids[:, :-1], mask=mask)  # [B, T, d_model]
        states, labels = states.flatten(0, 1), ids[:, 1:].flatten()
        if "counted" in batch:
            chosen = batch["counted"][:, 1:].flatten().nonzero()[:, 0]  # [N]
            states, labels = states.index_select(0, chosen), labels[chosen]
        head = cast(Any, model).head
        loss, nll = chunked_loss(states, head.weight, head.bias, labels, self.label_smoothing)
        count = float(len(labels))
        return {"loss": Term(loss, count), "nll": Term(nll, count, weight=0.0)}
