"""What the machine can do, and the only calls of private torch operators.

Shapes: states [..., in], weight [out, in], bias [out].
"""

from __future__ import annotations

import ctypes
import sys
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """states · weightᵀ + bias: [..., in] → [..., out]; by the packed weight where there is one."""
    packed = None if torch.compiler.is_compiling() else _packed(states, weight)
    if packed is None:
        return F.linear(states, weight, bias)
    product = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return cast(Tensor, product)


def pack(weight: Tensor) -> bool:
    """Lay a weight out anew, beside itself, for products without gradient.

    Few rows times a large matrix are what decoding does; the matrix in the order in which the
    processor reads it saves up to a third of that. `linear` finds it by its attribute ``packed``,
    and takes the weight itself again once that has changed.

    Returns:
        Whether it is packed; False where the machine or the dtype has no such product.
    """
    plain = type(weight) in (Tensor, nn.Parameter)  # a shard of a weight is neither
    if not plain or weight.device.type != "cpu" or not _has_onednn():
        return False
    if weight.dtype == torch.bfloat16:
        able = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        able = weight.dtype == torch.float32
    if able:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        weight.packed = (packed, _stamp(weight))  # type: ignore[attr-defined]
    return bool(able)


def is_packed(weight: Tensor) -> bool:
    """Whether `pack` was called for the weight as it now is."""
    found = getattr(weight, "packed", None)
    return found is not None and found[1] == _stamp(weight)


def unpack(weight: Tensor) -> None:
    """Forget the packed weight."""
    if hasattr(weight, "packed"):
        del weight.packed


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _stamp(weight: Tensor) -> tuple[int, int]:
    """Another one whenever the weight is another, changed in place or exchanged."""
    return 0 if weight.is_inference() else weight._version, weight.data_ptr()


def _packed(states: Tensor, weight: Tensor) -> Tensor | None:
    found = getattr(weight, "packed", None)
    if found is None or torch.is_grad_enabled() or torch.is_autocast_enabled(states.device.type):
        return None
    packed, stamp = found
    alone = states.dtype == torch.float32 and states.numel() == states.shape[-1]
    if alone or stamp != _stamp(weight):  # one row is faster with the weight as it is
        return None
    return cast(Tensor, packed)


def keep_heap() -> bool:
    """Let glibc keep freed memory instead of giving it back to the system at once.

    A training step frees and takes the same large blocks again and again; a fresh page costs about
    ten times a warm one. Environment variables would come too late in a running process.

    Returns:
        Whether it took effect; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {
        _M_MMAP_MAX: 0,
        _M_TRIM_THRESHOLD: 2**31 - 1,
        _M_TOP_PAD: 64 * 2**20,
    }
    return all(accepted == 1 for accepted in [mallopt(*pair) for pair in settings.items()])
