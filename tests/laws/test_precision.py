"""Law: narrower floats stay within stated bounds of float64.

In units of ε (the dtype's step at 1) times the outputs' root mean square: the mean error is below
6, and of 100 outputs 99 are closer than 64. The gradient as one vector is off by at most a share of
its length (`GRADIENT`); ReLU sets it, whose slope jumps where rounding changes a sign.
"""

import pytest
import torch

from ._cases import law

MEAN, OF_99_PERCENT = 6, 64
GRADIENT = {torch.float32: 2e-5, torch.bfloat16: 0.2, torch.float16: 0.2}


@pytest.mark.parametrize("dtype", GRADIENT, ids=str)
@law(pairs=False)
def test_outputs_and_gradients(case, dtype):
    """A second example is tried where a sign jumped in the first."""
    assert any(gradient_error(case, dtype) < GRADIENT[dtype] for _ in range(2))


@pytest.mark.usefixtures("by_parts")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@law(pairs=False)
def test_where_there_is_no_compiler(case, dtype):
    assert any(gradient_error(case, dtype) < GRADIENT[dtype] for _ in range(2))


def gradient_error(case, dtype):
    """The share of the gradient's length, after the outputs were held against their bounds."""
    example = case.masked(4, 9)
    truth_model, model = case.model(torch.float64), case.model(dtype)
    truth, made = case.everything(truth_model, example), case.everything(model, example)
    assert made.dtype == dtype
    error = (made.double() - truth).abs() / truth.square().mean().sqrt() / torch.finfo(dtype).eps
    assert error.mean() < MEAN
    assert error.quantile(0.99) < OF_99_PERCENT
    up = torch.randn_like(truth)
    (truth * up).sum().backward()
    (made * up.to(dtype)).sum().backward()
    ours, theirs = flat_gradient(model), flat_gradient(truth_model)
    return (ours - theirs).norm() / theirs.norm()


def flat_gradient(model):
    return torch.cat([parameter.grad.double().flatten() for parameter in model.parameters()])
