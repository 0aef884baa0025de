"""What the machine is asked, and every way around what it lacks."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from regard.nn import backend
from regard.nn import processor as processor_module

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")


@onednn
@pytest.mark.parametrize("shape", [(2, 9, 12), (30, 12), (12,)])
@pytest.mark.parametrize("out", [5, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_products_of_onednn_give_the_formula_and_its_gradients(
    monkeypatch, shape, out, dtype, bias
):
    monkeypatch.setattr(backend, "_onednn_pays", lambda states, weight: True)
    torch.manual_seed(0)
    leaves = [torch.randn(shape), torch.randn(out, 12), *([torch.randn(out)] if bias else [])]
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    up = torch.randn(*shape[:-1], out).to(dtype)
    made = backend.linear(*leaves) if bias else backend.linear(*leaves, None)
    assert "_Linear" in type(made.grad_fn).__name__
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = F.linear(*exact)
    bound = 1e-5 if dtype == torch.float32 else 0.02
    for ours, truth in zip(
        [made, *torch.autograd.grad(made, leaves, up)],
        [expected, *torch.autograd.grad(expected, exact, up.double())],
        strict=True,
    ):
        assert ours.dtype == dtype
        assert ours.shape == truth.shape
        assert (ours.double() - truth).abs().max() <= bound * truth.abs().max()


@onednn
def test_only_the_gradients_that_are_wanted(monkeypatch):
    monkeypatch.setattr(backend, "_onednn_pays", lambda states, weight: True)
    states, weight, bias = torch.randn(4, 3), torch.randn(2, 3), torch.randn(2)
    for leaf in (states, weight, bias):
        leaf.requires_grad_()
        backend.linear(states, weight, bias).sum().backward()
        assert leaf.grad is not None
        leaf.requires_grad_(False)
        leaf.grad = None
    weight.requires_grad_()
    backend.linear(states, weight, bias).sum().backward()
    assert states.grad is None
    assert bias.grad is None


@pytest.mark.parametrize(
    ("vendor", "dtype", "size", "native", "pays"),
    [
        ("AuthenticAMD", torch.float32, 4, False, True),
        ("GenuineIntel", torch.float32, 4, False, False),
        ("", torch.float32, 4, False, False),
        ("GenuineIntel", torch.bfloat16, 1024, True, True),
        ("GenuineIntel", torch.bfloat16, 1023, True, False),
        ("GenuineIntel", torch.bfloat16, 1024, False, False),
        ("AuthenticAMD", torch.float64, 1024, True, False),
    ],
)
def test_where_onednn_is_called(monkeypatch, vendor, dtype, size, native, pays):
    monkeypatch.setattr(backend, "vendor", lambda: vendor)
    monkeypatch.setattr(backend, "fast_bfloat16", lambda: native)
    monkeypatch.setattr(backend, "_has_onednn", lambda: True)
    states, weight = torch.zeros(2, 1024, dtype=dtype), torch.zeros(size, 1024, dtype=dtype)
    assert backend._onednn_pays(states, weight) == pays
    assert not backend._onednn_pays(states.to("meta"), weight.to("meta"))
    assert not backend._onednn_pays(states.to(torch.float16), weight)
    assert not backend._onednn_pays(states, weight.as_subclass(torch.nn.Buffer))
    with torch.autocast("cpu", torch.bfloat16):
        assert not backend._onednn_pays(states, weight)
    monkeypatch.setattr(backend, "_has_onednn", lambda: False)
    assert not backend._onednn_pays(states, weight)


def test_the_processor_where_the_system_does_not_say(monkeypatch):
    for asked in (backend.processor, backend.vendor, backend.fast_bfloat16):
        asked.cache_clear()
    monkeypatch.setattr(processor_module, "Path", lambda name: Path("/nowhere"))
    assert backend.vendor() == ""
    assert backend.fast_bfloat16() is False
    for asked in (backend.processor, backend.vendor, backend.fast_bfloat16):
        asked.cache_clear()


@pytest.mark.parametrize(
    ("vendor", "flags", "fast"),
    [
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f", False),
    ],
)
def test_where_bfloat16_is_faster_than_float32(monkeypatch, vendor, flags, fast):
    monkeypatch.setattr(backend, "processor", lambda: {"vendor_id": vendor, "flags": flags})
    monkeypatch.setattr(backend, "_has_onednn", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for asked in (backend.vendor, backend.fast_bfloat16):
        monkeypatch.setattr(backend, asked.__name__, asked.__wrapped__)
    assert backend.fast_bfloat16() is fast


def test_the_processor(monkeypatch, tmp_path):
    text = (
        "processor\t: 0\nvendor_id\t: Maker\nflags\t\t: sse avx\n\nprocessor : 1\nvendor_id : B\n"
    )
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor_module, "Path", lambda name: tmp_path / "cpuinfo")
    backend.processor.cache_clear()
    found = backend.processor()
    backend.processor.cache_clear()
    assert found == {"processor": "0", "vendor_id": "Maker", "flags": "sse avx"}


def test_the_heap_is_kept_where_there_is_glibc():
    """In a process of its own: this one should go on as it is."""
    code = "from regard.nn import backend; print(backend.keep_heap())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    glibc = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    assert done.stdout.strip() == str(glibc)


def test_the_heap_elsewhere(monkeypatch):
    monkeypatch.setattr(backend.sys, "platform", "darwin")
    assert backend.keep_heap() is False
    monkeypatch.setattr(backend.sys, "platform", "linux")
    monkeypatch.setattr(backend.ctypes, "CDLL", lambda name: object())  # a C library without it
    assert backend.keep_heap() is False


def test_a_setting_that_is_refused(monkeypatch):
    class Library:
        @staticmethod
        def mallopt(key, value):
            return int(key != -4)

    monkeypatch.setattr(backend.sys, "platform", "linux")
    monkeypatch.setattr(backend.ctypes, "CDLL", lambda name: Library)
    assert backend.keep_heap() is False


def test_rows_come_in_few_numbers_where_onednn_multiplies(monkeypatch):
    monkeypatch.setattr(backend, "_has_onednn", lambda: True)
    monkeypatch.setattr(backend, "vendor", lambda: "GenuineIntel")
    numbers = range(1, 4097)
    made = [backend.rounded(rows, torch.bfloat16) for rows in numbers]
    assert all(rows <= more <= rows * 17 / 16 for rows, more in zip(numbers, made, strict=True))
    assert len({more for more in made if 1024 < more <= 2048}) == 16
    assert [backend.rounded(rows, torch.float32) for rows in (17, 1025)] == [17, 1025]
    monkeypatch.setattr(backend, "vendor", lambda: "AuthenticAMD")
    assert backend.rounded(1025, torch.float32) == 1088
    assert backend.rounded(1025, torch.float64) == 1025
    monkeypatch.setattr(backend, "_has_onednn", lambda: False)
    assert backend.rounded(1025, torch.bfloat16) == 1025
