"""Packed weights: the same numbers, never stale, and gone when they should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from regard.models.transformer import Transformer, TransformerConfig
from regard.nn import backend, native
from regard.nn.linear import Linear
from regard.nn.packing import pack, packed

AVAILABLE = torch.backends.mkldnn.is_available()
needs_packing = pytest.mark.skipif(not AVAILABLE, reason="this torch has no oneDNN")


def tiny() -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig.preset("tiny", vocab_size=50)).eval()


@pytest.fixture(params=["native", "mkl", "onednn"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the three that pack, whatever the processor."""
    if request.param == "mkl" and not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL")
    if request.param == "native" and not native.load():
        pytest.skip("there is no compiler here")
    monkeypatch.setattr(native, "loaded", lambda: request.param == "native")
    monkeypatch.setattr(backend, "_mkl_pays", lambda: request.param == "mkl")
    return str(request.param)


def logits(model: Transformer) -> Tensor:
    ids = torch.arange(4, 24).view(4, 5)
    return model(ids, ids.flip(0))


@needs_packing
@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_product_is_the_product(rows: int, bias: bool, by: str) -> None:
    layer = Linear(48, 80, bias=bias)
    states = torch.randn(rows, 48)
    plain = layer(states)
    assert backend.pack(layer.weight)
    assert layer.weight.packed.by_mkl == (by == "mkl")
    assert layer.weight.packed.native == (by == "native")
    with torch.no_grad():
        torch.testing.assert_close(layer(states), plain, rtol=1e-5, atol=1e-5)
        deep = layer(states.view(rows, 1, 1, 48).transpose(0, 1))
        torch.testing.assert_close(deep[0, :, 0], plain, rtol=1e-5, atol=1e-5)


@needs_packing
def test_a_packed_model_gives_the_same_and_gradients_pass_it_by(by: str) -> None:
    model = tiny()
    plain = logits(model)
    with packed(model), torch.no_grad():
        assert len(pack(model)) == 0, "all of them are packed"
        torch.testing.assert_close(logits(model), plain, rtol=1e-5, atol=1e-5)
        with torch.enable_grad():
            assert logits(model).requires_grad
    assert not any(hasattr(parameter, "packed") for parameter in model.parameters())


@needs_packing
def test_a_changed_weight_is_not_stale(by: str) -> None:
    layer = Linear(16, 16)
    states = torch.randn(3, 16)
    backend.pack(layer.weight)
    with torch.no_grad():
        before = layer(states)
        layer.weight.mul_(2.0)
        after = layer(states)
        assert not backend.is_packed(layer.weight)
        torch.testing.assert_close(after, 2.0 * (before - layer.bias) + layer.bias)
        backend.pack(layer.weight)
        torch.testing.assert_close(layer(states), after, rtol=1e-5, atol=1e-5)
        layer.weight.data = layer.weight.data.bfloat16()
        assert not backend.is_packed(layer.weight)


def test_what_cannot_be_packed_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    double = tiny().double()
    assert pack(double) == []
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = tiny()
    with packed(model), torch.no_grad():
        assert logits(model).isfinite().all()
        assert not any(hasattr(parameter, "packed") for parameter in model.parameters())


def test_mkl_packs_on_the_processors_that_it_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pays = backend._mkl_pays.__wrapped__
    monkeypatch.setattr(backend, "vendor", lambda: "AuthenticAMD")
    assert not pays()
    monkeypatch.setattr(backend, "vendor", lambda: "GenuineIntel")
    assert pays() == torch.backends.mkl.is_available()
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not pays()
