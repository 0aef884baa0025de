"""Which kernel `auto` takes: by device, length and mask, never by timing."""

from __future__ import annotations

import pytest
import torch

from regard import registry
from regard.nn import backend, kernels, native


def chosen(
    queries: int,
    keys: int,
    *,
    gradient: bool = False,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
) -> str:
    query = torch.zeros(2, 4, queries, 8, requires_grad=gradient, dtype=dtype)
    key = torch.zeros(2, 4, keys, 8, dtype=dtype)
    kernel = kernels.choose(query, key, bias=torch.zeros(1) if bias else None)
    names = registry.names("kernels")
    return next(name for name in names if registry.kind("kernels", name) is kernel)


def test_sentences_go_by_batched_products() -> None:
    assert chosen(30, 30, gradient=True) == "packed"
    assert chosen(30, 30) == "packed"
    assert chosen(4, 30, gradient=True) == "packed"


def test_where_c_is_loaded_it_takes_what_is_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_loaded", True)
    for length in (9, 100, 600, kernels.LONGEST_SHORT):
        assert chosen(length, length, gradient=True) == chosen(length, length) == "short"
    assert chosen(4, 30, gradient=True) == "short"
    assert chosen(30, 30, bias=True) == "packed"
    assert chosen(2000, 2000) == "fused"
    assert chosen(30, 30, dtype=torch.float64) == "packed"
    for fast, name in ((True, "packed"), (False, "short")):
        monkeypatch.setattr(backend, "fast_bfloat16", lambda fast=fast: fast)
        assert chosen(30, 30, dtype=torch.bfloat16) == "short"
        assert chosen(100, 100, dtype=torch.bfloat16) == name


def test_steps_of_decoding_go_by_the_kernel_for_few_queries() -> None:
    assert chosen(1, 30) == "few"
    assert chosen(4, 30) == "few"


def test_long_texts_go_by_the_tiled_kernel() -> None:
    assert chosen(600, 600) == "fused"


def test_a_bias_goes_by_batched_products() -> None:
    assert chosen(1, 30, bias=True) == "packed"


def test_one_can_be_forced() -> None:
    with kernels.use("dense"):
        assert chosen(30, 30) == "dense"
    assert chosen(30, 30) == "packed"
