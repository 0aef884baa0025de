"""IDX files, MNIST's format (LeCun et al., 1998): bytes of any shape, also ``.gz`` and ``.zst``."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regard.data.readers.lines import read_bytes
from regard.errors import DataError

_BYTES = 0x08


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An IDX file's array; views of it are cheap.

    Raises:
        DataError: it is none, or not whole.
    """
    raw = read_bytes(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or not 1 <= raw[3] <= 4:
        raise DataError("this is no IDX file", where=str(path))
    if raw[2] != _BYTES:
        raise DataError(f"this IDX file holds numbers of type 0x{raw[2]:02x}", where=str(path))
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start]) if len(raw) >= start else (0,)
    count = int(np.prod(shape, dtype=object))
    if len(raw) != start + count:
        held = f"{max(len(raw) - start, 0):,} bytes, not the {count:,}"
        raise DataError(f"the file has {held} that its head announces", where=str(path))
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
