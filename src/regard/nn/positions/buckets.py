"""A bias on the scores by bucketed distance (Raffel et al., "T5", 2020, section 2.1).

Shapes: positions [B or 1, T], weight [num_buckets, H], score bias [B or 1, H, Tq, Tk].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import RecipeError
from regard.nn.positions.scheme import PositionScheme, SchemeSize
from regard.spec import Positive, Within


@dataclass(frozen=True)
class BucketsOptions:
    """Settings of the buckets.

    Attributes:
        num_buckets: of all distances.
        max_distance: from which on all share the last bucket.
        bidirectional: half of the buckets for keys behind the query, half for those ahead; else
            those ahead are in the bucket of distance 0, as behind a causal mask none is seen.
    """

    num_buckets: Annotated[int, Within(4)] = 32
    max_distance: Positive = 128
    bidirectional: bool = True


class Buckets(PositionScheme):
    """A learned number for each head and bucket of distances, one table for all layers.

    Half of a side's buckets hold one distance each, the others ever more, by the logarithm.
    N(0, 1/d_model) at the start, as in T5's code (mesh_tensorflow).

    Attributes:
        by_distance: int64 [2 * max_distance + 1], the bucket of each key - query.

    Raises:
        RecipeError: when there are more buckets than distances to share them.
    """

    Options = BucketsOptions
    looks_up = True
    by_distance: Tensor

    def __init__(self, size: SchemeSize, options: BucketsOptions) -> None:
        super().__init__(size, options)
        self.weight = nn.Parameter(torch.empty(options.num_buckets, size.num_heads))
        nn.init.normal_(self.weight, std=size.d_model**-0.5)
        distances = torch.arange(-options.max_distance, options.max_distance + 1)
        self.register_buffer("by_distance", buckets(distances, options), persistent=False)

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """From positions [B or 1, Tq], [B or 1, Tk] to [B or 1, H, Tq, Tk]."""
        furthest = self.options.max_distance
        distances = keys[:, None, :] - queries[:, :, None]  # [B or 1, Tq, Tk]
        found = self.by_distance[distances.clamp(-furthest, furthest) + furthest]
        return F.embedding(found, self.weight).permute(0, 3, 1, 2)


def buckets(distances: Tensor, options: BucketsOptions) -> Tensor:
    """The bucket of each distance key - query, in float32 as T5's code computes it.

    Raises:
        RecipeError: when there are more buckets than distances to share them.
    """
    sides = 2 if options.bidirectional else 1
    count = options.num_buckets // sides
    exact = count // 2
    if options.max_distance <= exact:
        raise RecipeError(
            f"{options.num_buckets} buckets hold every distance up to {exact} by itself",
            where="positions.max_distance",
            hint="choose a longer one, or fewer buckets",
        )
    behind = distances.abs() if sides == 2 else (-distances).clamp_min(0)
    logs = torch.log(behind.clamp_min(1).float() / exact) / math.log(options.max_distance / exact)
    far = (exact + (logs * (count - exact)).long()).clamp_max(count - 1)
    found = torch.where(behind < exact, behind, far)
    return found + count * (distances > 0) if sides == 2 else found
