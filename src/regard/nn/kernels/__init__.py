"""Kernels: several ways to compute the same attention.

Every kernel has the signature of `Kernel`; `dense` is the formula and the truth. `choose` picks
one by a rule over device, lengths and mask, never by timing. `use` forces one for a while;
`watch` and `switch_off` run the dense kernel so that pictures see, or silence, single heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from regard import registry
from regard.nn import backend
from regard.nn.dropout import drop
from regard.nn.masks import MaskForm
from regard.nn.native import operators


class Kernel(Protocol):
    """Scaled dot-product attention (paper, equation 1)."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        mask: MaskForm,
        scale: float,
        dropout: float = 0.0,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Mix the values by how well their keys fit the queries.

        Args:
            query: [B, H, Tq, d_key].
            key: [B, Hkv, Tk, d_key]; Hkv divides H.
            value: [B, Hkv, Tk, d_value].
            mask: where attention may go.
            scale: multiplies the scores, usually 1/√d_key.
            dropout: of the weights; 0 outside training.
            bias: [B or 1, H or 1, Tq, Tk], added to the scaled scores.

        Returns:
            [B, H, Tq, d_value]; zeros for a query that may see nothing.
        """
        ...


Watcher = Callable[[nn.Module, Tensor], None]

LONGEST_PACKED = 512
"""Keys up to which batched products beat the tiled CPU kernel (see docs/LOG.md)."""

LONGEST_SHORT = 1024
"""Keys up to which C++ head by head is faster than either, in float32."""

LONGEST_SHORT_LOW = 48
"""The same in a lower precision whose products are faster than float32's."""

FEW_QUERIES = 8
"""Queries a sentence up to which, in decoding, the tiled kernel is no slower, and in bfloat16 or
over a cache's strided buffers up to five times as fast."""

_loaded: dict[str, Kernel] = {}
_forced: list[str] = []
_watchers: list[Watcher] = []
_silent: list[tuple[nn.Module, tuple[int, ...]]] = []


def choose(query: Tensor, key: Tensor, *, bias: Tensor | None = None) -> Kernel:
    """The kernel for these tensors [B, H, Tq, d], [B, Hkv, Tk, d]."""
    return _loaded[_forced[-1] if _forced else _rule(query, key, bias)]


def _load(name: str) -> None:
    """Import a kernel ahead of its use: a compiled graph cannot."""
    if name not in _loaded:
        _loaded[name] = registry.kind("kernels", name)


def _rule(query: Tensor, key: Tensor, bias: Tensor | None) -> str:
    if query.device.type != "cpu":
        return "fused"
    if bias is not None:
        return "packed"
    if query.shape[2] <= FEW_QUERIES and not query.requires_grad:
        return "few"
    if operators.serve_training(query, key) and key.shape[2] <= longest_short(query.dtype):
        return "short"
    return "fused" if key.shape[2] > LONGEST_PACKED else "packed"


def longest_short(dtype: torch.dtype) -> int:
    """Keys up to which `short` is the fastest."""
    slow = dtype == torch.float32 or not backend.fast_bfloat16()
    return LONGEST_SHORT if slow else LONGEST_SHORT_LOW


@contextmanager
def use(name: str) -> Iterator[None]:
    """Run every attention inside the block by the kernel called ``name``.

    With gradient checkpointing the backward pass belongs inside the block too.
    """
    _load(name)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@contextmanager
def watch(callback: Watcher) -> Iterator[None]:
    """Run the dense kernel and hand each attention module's weights [B, H, Tq, Tk] over."""
    _watchers.append(callback)
    try:
        yield
    finally:
        _watchers.remove(callback)


@contextmanager
def switch_off(module: nn.Module, heads: Sequence[int]) -> Iterator[None]:
    """Give zeros for these heads of one attention module."""
    entry = (module, tuple(heads))
    _silent.append(entry)
    try:
        yield
    finally:
        _silent.remove(entry)


def forced() -> bool:
    """Whether `use` names the kernel."""
    return bool(_forced)


def observed() -> bool:
    """Whether somebody watches or silences heads."""
    return bool(_watchers or _silent)


def attend_openly(
    module: nn.Module,
    term: Callable[[Tensor], Tensor] | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: MaskForm,
    scale: float,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    """The dense kernel with its weights in the open.

    The watchers see them, ``term`` makes of them [B, H, Tq, Tk] what joins the mixture
    [B, H, Tq, d_value], and silenced heads are set to zero.
    """
    from regard.nn.kernels.dense import attention_weights, share_heads

    weights = attention_weights(query, key, mask=mask, scale=scale, bias=bias)
    for watcher in list(_watchers):
        watcher(module, weights.detach())
    if dropout > 0.0:
        weights = drop(weights, dropout)
    mixed = weights @ share_heads(value, query.shape[1])
    if term is not None:
        mixed = mixed + term(weights)
    for owner, heads in _silent:
        if owner is module:
            mixed = mixed.clone()
            mixed[:, list(heads)] = 0.0
    return mixed


for _name in ("packed", "fused", "few", "short"):  # what `_rule` may answer
    _load(_name)
