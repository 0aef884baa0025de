"""Relative positions (Shaw et al., "Self-Attention with Relative Position Representations", 2018).

Shapes: positions [B or 1, Tq] and [B or 1, Tk], relation [B or 1, 1, Tq, Tk] (integers),
query [B, H, Tq, d_key], weights [B, H, Tq, Tk], tables [K, d] of K = 2 * clip + 1 distances.

Neither term ever holds a vector for each pair of tokens, [Tq, Tk, d]. There are only K different
ones: a query's products with all of them, [B, H, Tq, K], are looked up by distance; and the weights
are summed by distance, [B, H, Tq, K], before they meet the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.nn.positions.scheme import PositionScheme
from regard.spec import Positive


@dataclass(frozen=True)
class ShawOptions:
    """Settings of Shaw's relative positions.

    Attributes:
        clip: distance from which all are taken for the same (k in the paper, section 3.2).
        values: whether values get a vector of their distance too, not keys alone. Attention then
            needs its weights in full, whichever kernel is asked for.
    """

    clip: Positive = 16
    values: bool = True


class Shaw(PositionScheme):
    """A learned vector for each clipped distance, added to keys and values (equations 3 and 4).

    The heads of a layer share its vectors (section 3.2); each layer has its own.
    """

    Options = ShawOptions

    def tables(self, d_key: int, d_value: int) -> tuple[DistanceKeys, DistanceValues | None]:
        """A layer's vectors for keys, and for values where these get some."""
        count = 2 * self.options.clip + 1
        values = DistanceValues(count, d_value) if self.options.values else None
        return DistanceKeys(count, d_key), values

    def relate(self, queries: Tensor, keys: Tensor) -> Tensor:
        """clip(key - query) + clip: rows of the tables, [B or 1, 1, Tq, Tk]."""
        clip = self.options.clip
        distances = keys[:, None, None, :] - queries[:, None, :, None]
        return distances.clamp_(-clip, clip).add_(clip)


class DistanceTable(nn.Module):
    """A vector for each distance; Glorot-uniform, as in the authors' code (tensor2tensor)."""

    looks_up = True

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.xavier_uniform_(self.weight)


class DistanceKeys(DistanceTable):
    """The scores' second term, query · vector of the distance (equation 5)."""

    def forward(self, query: Tensor, relation: Tensor) -> Tensor:
        """[B, H, Tq, d_key] → [B, H, Tq, Tk], in float32 or wider: gradients are sums over keys."""
        products = _wide(query) @ _wide(self.weight).mT  # [B, H, Tq, K]
        return products.gather(-1, relation.expand(*query.shape[:3], -1))


class DistanceValues(DistanceTable):
    """The mixture's second term, the sum of weight * vector of the distance."""

    def forward(self, weights: Tensor, relation: Tensor) -> Tensor:
        """[B, H, Tq, Tk] → [B, H, Tq, d_value]."""
        wide = _wide(weights)  # far keys all add to one sum
        sums = wide.new_zeros(*weights.shape[:3], len(self.weight))  # [B, H, Tq, K]
        sums = sums.scatter_add(-1, relation.expand_as(weights), wide)
        return (sums @ _wide(self.weight)).to(weights.dtype)


def _wide(numbers: Tensor) -> Tensor:
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))
