"""Masked language modeling, and next-sentence prediction beside it (Devlin et al., 2019).

Shapes: ids, mask, segments, labels [B, T]; states [B, T, d_model]; unrelated [B].
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from regard.objectives.classes import IGNORED, wide
from regard.objectives.cross_entropy import check_smoothing, chunked_loss
from regard.objectives.term import Term


class MaskedLM:
    """Cross-entropy of the hidden tokens; logits are made of those alone, and never held whole.

    Args:
        mask_rate: share of the tokens to be guessed; 80 % of them are hidden, 10 % replaced,
            10 % left as they are.
        whole_word: whether words are hidden whole.
        next_sentence: whether blocks are two segments, and it is to be told if they belong
            together; its loss is added.
        label_smoothing: ε, as in `CrossEntropy`.

    Raises:
        ValueError: the rate is no share.
    """

    reads = "masked"
    decomposable = True
    terms = ("loss", "nll")

    def __init__(
        self,
        mask_rate: float = 0.15,
        whole_word: bool = False,
        next_sentence: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0.0 < mask_rate < 1.0:
            raise ValueError(f"objective.mask_rate lies between 0 and 1, not at {mask_rate}")
        self.mask_rate = mask_rate
        self.whole_word = whole_word
        self.next_sentence = next_sentence
        self.label_smoothing = check_smoothing(label_smoothing)

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Tokens to guess, and pairs of segments."""
        hidden = float((batch["labels"] != IGNORED).sum())
        pairs = {"next_sentence": float(len(batch["labels"]))} if self.next_sentence else {}
        return {"loss": hidden, "nll": hidden, **pairs}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """Sums over the batch: ``loss``, ``nll`` (only watched), ``next_sentence``.

        Args:
            model: gives ``features`` and has a masked-language-model head.
            batch: of `regard.data.masked.MaskedBlocks`.
        """
        given: Any = cast(Any, model)
        mask, segments = batch["mask"], batch.get("segments")
        states = given.features(batch["ids"], mask=mask, segments=segments)
        labels = batch["labels"].flatten()
        hidden = (labels != IGNORED).nonzero()[:, 0]  # [N]
        head = given.head
        chosen = head.transform(states.flatten(0, 1).index_select(0, hidden))
        loss, nll = chunked_loss(
            chosen, head.weight, head.bias, labels[hidden], self.label_smoothing
        )
        count = float(len(hidden))
        terms = {"loss": Term(loss, count), "nll": Term(nll, count, weight=0.0)}
        if self.next_sentence:
            logits = wide(head.next_sentence(given.pool(states, mask)))
            pairs = F.cross_entropy(logits, batch["unrelated"], reduction="sum")
            terms["next_sentence"] = Term(pairs, float(len(logits)))
        return terms
