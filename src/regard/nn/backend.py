"""What the machine can do, and the only calls of private torch operators.

Shapes: states [..., in], weight [out, in], bias [out].
"""

from __future__ import annotations

import ctypes
import sys

from torch import Tensor
from torch.nn import functional as F

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """states · weightᵀ + bias: [..., in] → [..., out]."""
    return F.linear(states, weight, bias)


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
