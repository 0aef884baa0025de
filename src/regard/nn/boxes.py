"""Boxes: their corners, and how much two of them overlap.

Shapes: boxes [..., 4] as center x, center y, width, height (shares of the picture's sides), or as
corners: left, top, right, bottom.
"""

from __future__ import annotations

import torch
from torch import Tensor


def corners(boxes: Tensor) -> Tensor:
    """Center and size [..., 4] → left, top, right, bottom [..., 4]."""
    center, size = boxes.split(2, dim=-1)  # type: ignore[no-untyped-call]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def centered(boxes: Tensor) -> Tensor:
    """Left, top, right, bottom [..., 4] → center and size [..., 4]."""
    first, last = boxes.split(2, dim=-1)  # type: ignore[no-untyped-call]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def generalized_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union, less the share of their hull that neither covers.

    (Rezatofighi et al., 2019, algorithm 1.) From -1, far apart, to 1, the same.

    Args:
        one, other: corners [..., 4], broadcast against each other.
    """
    common = _area(
        torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    )
    hull = _area(
        torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])
    )
    union = _area(one[..., :2], one[..., 2:]) + _area(other[..., :2], other[..., 2:]) - common
    least = torch.finfo(union.dtype).tiny
    return common / union.clamp_min(least) - (hull - union) / hull.clamp_min(least)


def _area(first: Tensor, last: Tensor) -> Tensor:
    """Of the box between two corners [..., 2]; nothing where it is turned over."""
    return (last - first).clamp_min(0).prod(-1)
