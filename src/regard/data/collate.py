"""Collating: ids of some examples to padded tensors.

Shape legend: B examples, S source length with its end token, T target length with its end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data.prepared import Column, PreparedData

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of sides for an encoder-decoder; padding stands on the right.

    Called with prepared data and example numbers ``[B]`` it gives ``source_ids [B, S]`` (end
    token last), ``source_mask [B, S]``, ``target_ids [B, T + 1]`` (start token first, end token
    last), ``target_mask [B, T + 1]`` and ``example [B]``. Masks are True where a token is real.
    """

    start_id: int = 1
    end_id: int = 2
    pad_id: int = 0
    source: str = "source"
    target: str = "target"

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of either side, its end token counted [N, 2]."""
        return np.stack([data.lengths(name) + 1 for name in (self.source, self.target)], axis=1)

    def __call__(self, data: PreparedData, rows: Ints) -> dict[str, Tensor]:
        source_ids, source_mask = gather(
            data.column(self.source), rows, after=(self.end_id,), pad_id=self.pad_id
        )
        target_ids, target_mask = gather(
            data.column(self.target),
            rows,
            before=(self.start_id,),
            after=(self.end_id,),
            pad_id=self.pad_id,
        )
        return {
            "source_ids": source_ids,
            "source_mask": source_mask,
            "target_ids": target_ids,
            "target_mask": target_mask,
            "example": torch.from_numpy(np.array(rows, dtype=np.int64)),
        }


def gather(
    column: Column,
    rows: Ints,
    *,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    pad_id: int = 0,
) -> tuple[Tensor, Tensor]:
    """The ids of some examples with special tokens around them, padded on the right.

    Returns:
        ids ``[B, L]`` int64 and mask ``[B, L]`` bool, L the longest with its special tokens.
    """
    starts = column.offsets[rows]  # [B]
    lengths = column.offsets[rows + 1] - starts
    place = np.arange(int(lengths.max(initial=0)))
    inside = place < lengths[:, None]
    head, tail = len(before), len(after)
    ids = np.full((len(rows), head + len(place) + tail), pad_id, dtype=np.int64)  # [B, L]
    ids[:, head : head + len(place)][inside] = column.ids[(starts[:, None] + place)[inside]]
    ids[:, :head] = before
    for i, token in enumerate(after):
        ids[np.arange(len(rows)), head + lengths + i] = token
    mask = np.arange(ids.shape[1]) < (head + lengths + tail)[:, None]
    return torch.from_numpy(ids), torch.from_numpy(mask)
