"""Where gradients of an attention's inputs go: laid out as the inputs, so that no copy follows.

Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value].
"""

from __future__ import annotations

import torch
from torch import Tensor

Layouts = list[list[tuple[torch.Size, tuple[int, ...], int]]]
"""Shapes [B, heads, T, d], strides and starts, grouped by what fills one tensor together."""


def find_layouts(query: Tensor, key: Tensor, value: Tensor) -> Layouts:
    """How the gradients of the three shall lie in memory."""
    if _fill_one(query, key, value):
        groups = [[query, key, value]]
    elif _fill_one(key, value):
        groups = [[query], [key, value]]
    else:
        groups = [[query], [key], [value]]
    layouts = []
    for group in groups:
        if not _fill_one(*group):  # such as an expanded one: its gradient gets plain strides
            group = [torch.empty(group[0].shape, device="meta")]
        start = int(group[0].storage_offset())
        layouts.append([(x.shape, x.stride(), int(x.storage_offset()) - start) for x in group])
    return layouts


def _fill_one(*parts: Tensor) -> bool:
    """Whether parts [B, heads, T, d] fill one tensor, and nothing else does."""
    return _are_columns(*parts) or _are_stacked(*parts)


def _are_columns(*parts: Tensor) -> bool:
    """Whether parts [B, heads, T, d] are views of neighboring columns of one [B, T, columns]."""
    columns = sum(x.shape[1] * x.shape[3] for x in parts)
    length, start = parts[0].shape[2], parts[0].storage_offset()
    for part in parts:
        if part.shape[2] != length or part.storage_offset() != start:
            return False
        if part.stride() != (length * columns, part.shape[3], columns, 1):
            return False
        if part.untyped_storage().data_ptr() != parts[0].untyped_storage().data_ptr():
            return False
        start += part.shape[1] * part.shape[3]
    return True


def _are_stacked(*parts: Tensor) -> bool:
    """Whether parts, each in one piece, stand one after another in one tensor."""
    start = parts[0].storage_offset()
    for part in parts:
        if not part.is_contiguous() or part.storage_offset() != start:
            return False
        if part.untyped_storage().data_ptr() != parts[0].untyped_storage().data_ptr():
            return False
        start += part.numel()
    return True


def make_rooms(dtype: torch.dtype, layouts: Layouts) -> list[Tensor]:
    """Room for gradients, laid out as what they belong to, so that no other copy follows."""
    rooms = []
    for group in layouts:
        joint = torch.empty(sum(shape.numel() for shape, _, _ in group), dtype=dtype)
        rooms += [joint.as_strided(shape, strides, start) for shape, strides, start in group]
    return rooms
