"""The loss of a set of boxes: each is told by the token whose answer fits it best.

(Carion et al., 2020, "DETR", sections 3.1 and A.2; Fang et al., 2021.)

Shapes: pixels [B, C, H, W]; N detection tokens; labels [B, N] and boxes [B, N, 4] of what there is
to see, "no object" after it; logits [B, N, classes + 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import missing_extra
from regard.nn.boxes import corners, generalized_overlap
from regard.objectives.classes import IGNORED, answers, wide
from regard.objectives.term import Term


class SetPrediction:
    """Cross-entropy of each token's class, distance and overlap of the boxes.

    Tokens are matched with boxes one to one, so that what they cost together is least. Terms are
    normalized as DETR's code does: classes by the sum of their weights, boxes by their number.

    Args:
        no_object: weight of the class "no object", which most tokens have.
        distance: weight of the sum of absolute differences of center and size.
        overlap: weight of 1 less the generalized overlap.
    """

    reads = "boxes"
    decomposable = True
    terms = ("loss", "distance", "overlap", "error")

    def __init__(self, no_object: float = 0.1, distance: float = 5.0, overlap: float = 2.0) -> None:
        if min(no_object, distance, overlap) < 0:
            raise ValueError("weights of the objective are not below 0")
        self.no_object = no_object
        self.distance = distance
        self.overlap = overlap

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Weights of the classes, and boxes."""
        labels = batch["labels"]
        boxes = int((labels != IGNORED).sum())
        weights = boxes + self.no_object * (labels.numel() - boxes)
        return {"loss": weights, **dict.fromkeys(self.terms[1:], float(boxes))}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Term]:
        """Sums over the batch.

        ``loss`` of the classes, ``distance``, ``overlap``; watched only, ``error``: boxes whose
        token says another class, or none.
        """
        made, placed = (wide(one) for one in answers(model, batch))
        labels, boxes, counts = batch["labels"], batch["boxes"].to(placed), self.counts(batch)
        rows, tokens, targets = self.match(made, placed, labels, boxes)
        wanted = torch.full_like(labels, made.shape[-1] - 1)
        wanted[rows, tokens] = labels[rows, targets]
        weights = made.new_ones(made.shape[-1])
        weights[-1] = self.no_object
        classes = F.cross_entropy(made.flatten(0, 1), wanted.flatten(), weights, reduction="sum")
        ours, theirs = placed[rows, tokens], boxes[rows, targets]  # [boxes, 4]
        apart = (ours - theirs).abs().sum()
        beside = (1.0 - generalized_overlap(corners(ours), corners(theirs))).sum()
        with torch.no_grad():
            missed = made[rows, tokens].argmax(-1) != labels[rows, targets]
        return {
            "loss": Term(classes, counts["loss"]),
            "distance": Term(apart, counts["distance"], weight=self.distance),
            "overlap": Term(beside, counts["overlap"], weight=self.overlap),
            "error": Term(missed.sum().to(classes.dtype), counts["error"], weight=0.0),
        }

    @torch.no_grad()
    def match(
        self, logits: Tensor, placed: Tensor, labels: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Which token answers for which box.

        Args:
            logits, placed: answers [B, N, classes + 1], [B, N, 4].
            labels, boxes: what there is to see [B, N], [B, N, 4].

        Returns:
            of each box that there is: row of the batch, token, and place among the row's boxes.
        """
        try:
            from scipy import optimize
        except ImportError as error:
            raise missing_extra("scipy", "pictures") from error
        real = labels != IGNORED  # [B, N]
        named = labels.where(real, 0)[:, None].expand(-1, logits.shape[1], -1)
        cost = -logits.softmax(-1).gather(-1, named)  # [B, N, N]: a token's of a box
        cost += self.distance * (placed[:, :, None] - boxes[:, None]).abs().sum(-1)
        edges = corners(placed)[:, :, None], corners(boxes)[:, None]
        cost -= self.overlap * generalized_overlap(*edges)
        costs = cost.nan_to_num(nan=1e9, posinf=1e9, neginf=-1e9).cpu().numpy()
        found = []
        for row, kept in enumerate(real.cpu().numpy()):
            places = kept.nonzero()[0]
            solve = optimize.linear_sum_assignment  # type: ignore[attr-defined]
            tokens, targets = solve(costs[row][:, places])
            found += [(row, *pair) for pair in zip(tokens, places[targets], strict=True)]
        pairs = torch.tensor(found, dtype=torch.long, device=logits.device).view(-1, 3)
        rows, tokens, targets = pairs.unbind(1)
        return rows, tokens, targets
