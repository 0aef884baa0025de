"""What an objective gives back: sums with their counts, so that any split of a batch adds up."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a loss, or a figure watched beside it.

    Attributes:
        sum: scalar, over the items of the batch.
        count: how many items (tokens, sentences, …) there are.
        weight: in the loss that is trained on; 0 = watched only.
    """

    sum: Tensor
    count: float
    weight: float = 1.0
