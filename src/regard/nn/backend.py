"""What the machine can do, and the only calls of private torch operators.

Shapes: states [..., in], weight [out, in], bias [out].
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regard.nn import native
from regard.nn.native import operators
from regard.nn.processor import processor

LARGE = 2**20
"""Numbers in a bfloat16 weight from which oneDNN's own call saves more than it costs."""

MANY = 256
"""Rows for which MKL is asked to lay a weight out: what suits many is as fast for few, while what
suits few is up to twice as slow for more; with two threads so is what suits 512."""

FEW_ROWS = 128
"""Rows up to which our own product in C++ is the faster one."""

FINEST = 16
"""Numbers of rows between one power of two and the next that `rounded` leaves."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """states · weightᵀ + bias: [..., in] → [..., out], by the machine's fastest product."""
    if torch.compiler.is_compiling():
        return F.linear(states, weight, bias)
    if torch.is_grad_enabled():
        if _onednn_pays(states, weight):
            return cast(Tensor, _Linear.apply(states, weight, bias))  # type: ignore[no-untyped-call]
    elif (found := getattr(weight, "packed", None)) is not None and found.serves(states, weight):
        return cast(Tensor, found(states, bias))
    return F.linear(states, weight, bias)


def prepared(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """What `linear` does without gradient while the weight stays as it is: [N, in] → [N, out]."""
    found = getattr(weight, "packed", None)
    if found is None or not is_packed(weight):
        return partial(F.linear, weight=weight, bias=bias)
    if not found.by_mkl:
        return partial(linear, weight=weight, bias=bias)
    product, packed, plain = torch.ops.mkl._mkl_linear.default, found.packed, found.plain
    return lambda rows: product(rows, packed, plain, bias, len(rows))


class _Linear(torch.autograd.Function):
    """A linear map whose three products oneDNN makes."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states, weight)
        ctx.biased = bias is not None
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        by_states = by_weight = by_bias = None
        rows = gradient.reshape(-1, gradient.shape[-1])  # [n, out]
        if ctx.needs_input_grad[0]:
            by_states = _matrix_product(rows, weight).view(states.shape)
        if ctx.needs_input_grad[1]:
            by_weight = _matrix_product(rows.t(), states.reshape(-1, states.shape[-1]))
        if ctx.biased and ctx.needs_input_grad[2]:
            by_bias = rows.sum(dim=0)
        return by_states, by_weight, by_bias


def _product(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """states · weightᵀ + bias by oneDNN; the weight may be packed."""
    made = torch.ops.mkldnn._linear_pointwise.default(states, weight, bias, "none", [], "")
    return cast(Tensor, made)


def _matrix_product(first: Tensor, second: Tensor) -> Tensor:
    """first [a, b] · second [b, c]; torch itself takes oneDNN for bfloat16.

    Turned matrices are the exception: oneDNN is slow to read a turned first one, and here makes
    it straight before, which pays where it is the narrower one.
    """
    turned = first.stride(0) == 1 and first.shape[0] < second.shape[1]
    if first.dtype == torch.bfloat16 and not turned:
        return first @ second
    return _product(first, second.t(), None)


def rounded(rows: int, dtype: torch.dtype) -> int:
    """How many rows a product should have instead of ``rows``: at most a sixteenth more.

    oneDNN makes code anew for each number of rows, and takes longer for that than for the product
    of a small model. So the numbers that occur must be few.
    """
    if not _by_onednn(dtype) or rows <= FINEST:
        return rows
    step = 1 << (rows.bit_length() - FINEST.bit_length())
    return -(-rows // step) * step


def _by_onednn(dtype: torch.dtype) -> bool:
    """Whether products on the CPU are oneDNN's, and not MKL's or torch's own."""
    if dtype in (torch.bfloat16, torch.float16):
        return _has_onednn()
    return dtype == torch.float32 and vendor() == "AuthenticAMD" and _has_onednn()


def _onednn_pays(states: Tensor, weight: Tensor) -> bool:
    """Where oneDNN's own call is faster than torch's.

    In bfloat16 it adds the bias on the way, which large weights notice. In float32 it is twice as
    fast as MKL on AMD's processors, and no faster on Intel's (docs/LOG.md).
    """
    if states.device.type != "cpu" or type(weight) not in (Tensor, nn.Parameter):
        return False
    if states.dtype != weight.dtype or torch.is_autocast_enabled("cpu") or not _has_onednn():
        return False
    if weight.dtype == torch.bfloat16:
        return weight.numel() >= LARGE and fast_bfloat16()
    return weight.dtype == torch.float32 and vendor() == "AuthenticAMD"


@cache
def fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32: AMX, or AMD's AVX-512 BF16.

    Where Intel's has AVX-512 BF16 without AMX, as some virtual machines do, its products take as
    long as float32's or twice as long (docs/LOG.md).
    """
    able = torch.backends.cpu.get_cpu_capability() == "AVX512" and _has_onednn()
    flags = processor().get("flags", "").split()
    return able and ("amx_bf16" in flags or (vendor() == "AuthenticAMD" and "avx512_bf16" in flags))


@cache
def vendor() -> str:
    """The processor's maker, as it names itself; empty where the system does not say."""
    return processor().get("vendor_id", "")


class _PackedWeight:
    """A weight laid out for products of few rows: our own in C++, MKL's or oneDNN's.

    In float32 our own are up to twice as fast as MKL's, which on Intel's processors are up to an
    eighth faster than oneDNN's (docs/LOG.md).
    """

    def __init__(self, weight: Tensor) -> None:
        self.stamp = _stamp(weight)
        self.plain = weight.detach()
        self.native = weight.dtype == torch.float32 and native.loaded()
        self.by_mkl = weight.dtype == torch.float32 and not self.native and _mkl_pays()
        if self.native:
            self.packed = operators.pack(self.plain)
        elif self.by_mkl:
            self.packed = torch.ops.mkl._mkl_reorder_linear_weight(self.plain, MANY)
        else:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.plain, None)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy has none: what oneDNN laid out cannot be written

    def serves(self, states: Tensor, weight: Tensor) -> bool:
        """Whether the weight is still the same, and the product with these states pays."""
        if self.stamp != _stamp(weight) or torch.is_autocast_enabled("cpu"):
            return False
        rows = states.shape[:-1].numel()
        if self.native:
            return rows <= FEW_ROWS
        # oneDNN's product of a single row is slower in float32 than that with the weight as it is
        return self.by_mkl or states.dtype != torch.float32 or rows > 1

    def __call__(self, states: Tensor, bias: Tensor | None) -> Tensor:
        if self.native:
            rows = states.reshape(-1, states.shape[-1])
            made = operators.linear(rows, self.plain, self.packed, bias)
            return made.view(*states.shape[:-1], len(self.plain))
        if not self.by_mkl:
            return _product(states, self.packed, bias)
        count = states.numel() // states.shape[-1]
        made = torch.ops.mkl._mkl_linear.default(states, self.packed, self.plain, bias, count)
        return cast(Tensor, made)


class Int8Weight:
    """An int8 weight [out, in] laid out for oneDNN, with the scale of each of its rows [out].

    Where `has_int8` says no, the codes are multiplied as float32: as slow, as large
    beside the codes, and exact up to sums of 2²⁴.
    """

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        self.scales = scales
        self.zeros = torch.zeros(len(scales), dtype=torch.int64)
        self.by_onednn = has_int8()
        lay_out = torch.ops.onednn.qlinear_prepack if self.by_onednn else _turned
        self.packed = lay_out(codes, None)

    def product(self, codes: Tensor) -> Tensor:
        """int8 codes [N, in] → float32 [N, out]: their products with the weight, scaled by it."""
        if not self.by_onednn:
            return torch.mm(codes.float(), self.packed).mul_(self.scales)
        return _int8_product(codes, self.packed, self.scales, self.zeros)


def _turned(codes: Tensor, _: None) -> Tensor:
    return codes.float().t().contiguous()


@cache
def has_int8() -> bool:
    """Whether torch has fast products of 8-bit integers for the processor, and exact ones.

    Without VNNI oneDNN adds two products in 16 bits, which overflow: so the largest are tried.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not (x86 and _has_onednn() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return False
    codes = torch.full((64, 256), 127, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(codes, None)
    made = _int8_product(codes, packed, torch.ones(64), torch.zeros(64, dtype=torch.int64))
    return bool((made == 256 * 127**2).all())


def _int8_product(codes: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """As unsigned bytes, 128 more: two signed ones, which processors without AMX do not multiply,
    oneDNN takes a number at a time (docs/LOG.md)."""
    made = torch.ops.onednn.qlinear_pointwise.default(
        *(codes.bitwise_xor(-128).view(torch.uint8), 1.0, 128),
        *(packed, scales, zeros),
        *(None, 1.0, 0, torch.float32, "none", [], ""),
    )
    return cast(Tensor, made)


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
        weight.packed = _PackedWeight(weight)  # type: ignore[attr-defined]
    return bool(able)


def is_packed(weight: Tensor) -> bool:
    """Whether `pack` was called for the weight as it now is."""
    found = getattr(weight, "packed", None)
    return found is not None and found.stamp == _stamp(weight)


def packed_for_few(weight: Tensor) -> Tensor | None:
    """The weight as C++ reads it, if `pack` laid it out so as it now is."""
    found = getattr(weight, "packed", None)
    return found.packed if is_packed(weight) and found is not None and found.native else None


def unpack(weight: Tensor) -> None:
    """Forget the packed weight."""
    if hasattr(weight, "packed"):
        del weight.packed


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _stamp(weight: Tensor) -> tuple[int, int]:
    """Another one whenever the weight is another, changed in place or exchanged."""
    return 0 if weight.is_inference() else weight._version, weight.data_ptr()


@cache
def _mkl_pays() -> bool:
    """Whether torch has MKL's packed product, on the processors that it is made for."""
    able = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return bool(able) and hasattr(torch.ops.mkl, "_mkl_linear") and vendor() == "GenuineIntel"


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
