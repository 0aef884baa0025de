"""Law: products of 8-bit integers give nearly the same, in every family."""

import torch
from torch import nn

from regard.nn.linear import Linear, SplitLinear
from regard.nn.quantized import QuantizedLinear, quantize

from ._cases import law

NEAR = 0.1
"""The largest part of an answer that may be wrong: widths of 16 round coarsely."""


@law()
@torch.no_grad()
def test_a_quantized_model_answers_nearly_the_same(case):
    model, example = case.model(torch.float32), case.example()
    expected = case.run(model, example)
    quantize(model)
    assert any(isinstance(module, QuantizedLinear) for module in model.modules())
    assert not any(isinstance(module, Linear | SplitLinear) for module in model.modules())
    made = case.run(model, example)
    assert not torch.equal(made, expected)
    assert float(nn.functional.mse_loss(made, expected)) < NEAR**2 * float(expected.var())
