"""Products of 8-bit integers."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from regard.models import GPT, GPTConfig
from regard.nn import backend, native
from regard.nn.linear import Linear, SplitLinear
from regard.nn.processor import processor
from regard.nn.quantized import (
    QuantizedLinear,
    QuantizedSplitLinear,
    quantize,
    quantize_rows,
)

torch.manual_seed(0)
STATES = torch.randn(3, 5, 48) * torch.tensor([0.01, 1.0, 100.0])[:, None, None]


class TestRows:
    def test_the_largest_entry_is_127_and_none_is_farther_off_than_half_a_step(self):
        rows = STATES.flatten(0, 1)
        codes, scales = quantize_rows(rows)
        assert codes.dtype == torch.int8
        assert (codes.abs().amax(dim=-1) == 127).all()
        assert ((codes * scales - rows).abs() <= scales * 0.5001).all()

    def test_a_change_of_sign_changes_signs_alone(self):
        codes, scales = quantize_rows(STATES[0])
        turned, same = quantize_rows(-STATES[0])
        assert torch.equal(turned, -codes)
        assert torch.equal(same, scales)

    def test_zeros_stay_zeros(self):
        codes, scales = quantize_rows(torch.zeros(2, 8))
        assert not codes.any()
        assert scales.isfinite().all()


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("bias", [True, False])
class TestProducts:
    def test_they_are_those_of_the_codes(self, bias):
        plain = Linear(48, 20, bias=bias)
        if bias:
            plain.bias.normal_()
        made = QuantizedLinear(plain.weight, plain.bias)
        codes, scales = quantize_rows(STATES.flatten(0, 1))
        rows = (codes.double() * scales) @ made.weight.double().T
        expected = rows + plain.bias if bias else rows
        found = made(STATES)
        assert found.shape == (3, 5, 20)
        torch.testing.assert_close(found.flatten(0, 1).double(), expected, rtol=1e-5, atol=1e-5)

    def test_they_are_near_the_plain_ones(self, bias):
        plain = Linear(48, 20, bias=bias)
        made, expected = QuantizedLinear(plain.weight, plain.bias)(STATES), plain(STATES)
        error = (made - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert float(error.max()) < 0.02

    def test_a_row_is_the_same_in_any_batch(self, bias):
        made = QuantizedLinear(*_weights(bias))
        whole = made(STATES)
        for sentence in range(3):
            for place in range(5):
                assert torch.equal(made(STATES[sentence, place][None])[0], whole[sentence, place])

    def test_the_codes_are_kept_once(self, bias):
        weight, shift = _weights(bias)
        codes, _ = quantize_rows(weight.detach())
        assert torch.equal(QuantizedLinear(weight, shift).codes, codes)

    def test_slices(self, bias):
        plain = SplitLinear(48, {"queries": 12, "keys": 4}, bias=bias)
        queries, keys = QuantizedSplitLinear(plain)(STATES)
        joint = QuantizedLinear(plain.weight, plain.bias)(STATES)
        assert torch.equal(torch.cat([queries, keys], dim=-1), joint)

    def test_lower_precisions_keep_theirs(self, bias):
        assert QuantizedLinear(*_weights(bias))(STATES.bfloat16()).dtype == torch.bfloat16


def _weights(bias):
    plain = Linear(48, 20, bias=bias)
    return plain.weight, plain.bias


def test_an_embedding_that_is_the_head_too_is_looked_up_as_it_was():
    model = GPT(GPTConfig.preset("nano-cpu", vocab_size=50)).eval()
    plain = copy.deepcopy(model)
    quantize(model)
    ids = torch.arange(8)[None]
    assert torch.equal(model.embedding(ids), plain.embedding(ids))
    assert model.head.codes.shape == (50, 128)
    numbers = sum(p.numel() for p in model.parameters())
    assert numbers < 0.1 * sum(p.numel() for p in plain.parameters())
    quantize(model)  # what is quantized stays as it is
    assert model.head.codes.dtype == torch.int8


class TestProcessors:
    """Without the operators in C++: oneDNN's products, or float32's where there are none."""

    @pytest.fixture(params=[True, False])
    def able(self, request, monkeypatch):
        if request.param and not backend.has_int8():
            pytest.skip("this processor has no products of int8")
        monkeypatch.setattr(backend, "has_int8", lambda: request.param)
        monkeypatch.setattr(native, "_loaded", False)

    @pytest.mark.usefixtures("able")
    @pytest.mark.parametrize("rows", [1, 5, 40])
    @pytest.mark.parametrize("bias", [True, False])
    def test_the_sums_are_exact(self, rows, bias):
        """Of the largest codes too, of which two products do not fit into 16 bits."""
        weight = torch.randn(70, 96).sign() * torch.tensor([1.0] * 48 + [0.5] * 48)
        shift = torch.randn(70) if bias else None
        states = torch.cat([weight[:1] * 3, torch.randn(rows, 96)])
        made = QuantizedLinear(weight, shift)(states)
        codes, scales = quantize_rows(states)
        own, by_row = quantize_rows(weight)
        sums = codes.double() @ own.double().t()
        assert int(sums.abs().max()) > 90 * 127 * 64
        expected = sums * scales.double() * by_row[:, 0].double()
        expected = expected if shift is None else expected + shift
        torch.testing.assert_close(made.double(), expected, rtol=1e-6, atol=1e-5)

    def test_a_processor_with_vnni_has_them(self):
        """Other tests skip without them, so that a wrong product would show nowhere else."""
        if "avx512_vnni" not in processor().get("flags", "").split():
            pytest.skip("this processor has no VNNI, or does not say so")
        assert backend.has_int8()

    @pytest.mark.parametrize("most", ["AVX2", "AVX512_CORE"])
    def test_processors_whose_sums_overflow_are_found(self, most):
        """As if this one had no more than that, without products of 8-bit integers."""
        script = (
            "import torch; from regard.nn import backend, quantized as q; "
            "weight, states = torch.ones(64, 256), torch.ones(32, 256); "
            "made = q.QuantizedLinear(weight, None)(states); "
            "print(backend.has_int8(), torch.allclose(made, states @ weight.t()))"
        )
        words = {"ONEDNN_MAX_CPU_ISA": most, "REGARD_NATIVE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **words},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["False", "True"]
