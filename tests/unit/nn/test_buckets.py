"""Bucketed distances by T5's rule, and the gradient that a bias gets from the packed kernel."""

import math

import pytest
import torch

from regard.errors import RecipeError
from regard.nn import Causal, Full, Padding, kernels, prepare
from regard.nn.positions.buckets import Buckets, BucketsOptions, buckets
from regard.nn.positions.scheme import SchemeSize


def by_rule(distance, options):
    """Section 2.1 and T5's code, number by number."""
    count, side = options.num_buckets, 0
    if options.bidirectional:
        count //= 2
        side, distance = (count if distance > 0 else 0), abs(distance)
    else:
        distance = max(-distance, 0)
    exact = count // 2
    if distance < exact:
        return side + distance
    far = math.log(distance / exact) / math.log(options.max_distance / exact) * (count - exact)
    return side + min(exact + int(far + 1e-6), count - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("count", "furthest"), [(32, 128), (8, 16), (10, 20), (4, 3)])
def test_buckets_are_the_rule(count, furthest, bidirectional):
    options = BucketsOptions(count, furthest, bidirectional)
    distances = torch.arange(-3 * furthest, 3 * furthest + 1)
    wanted = [by_rule(int(one), options) for one in distances]
    assert buckets(distances, options).tolist() == wanted
    scheme = Buckets(SchemeSize(16, 4, 3, 64), options)
    bias = scheme.bias(torch.tensor([[3 * furthest]]), 3 * furthest + distances[None])
    assert torch.equal(bias[0, :, 0].T, scheme.weight[torch.tensor(wanted)])


def test_more_buckets_than_distances_are_refused():
    with pytest.raises(RecipeError, match=r"32 buckets hold every distance up to 16"):
        Buckets(SchemeSize(16, 4, 4, 64), BucketsOptions(32, 16, bidirectional=False))


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (1, 1), (2, 1)])
@pytest.mark.parametrize(
    "rule", [Full(), Causal(), Padding(torch.arange(6) < torch.tensor([[6], [3]]))]
)
def test_the_packed_kernel_gives_a_bias_its_gradient(shape, rule):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 6, 8, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(*shape, 6, 6, dtype=torch.float64)
    mask = prepare(rule, 6, 6, device=torch.device("cpu"))
    found = {}
    for name in ("dense", "packed"):
        inputs = [one.clone().requires_grad_() for one in (query, key, value, bias)]
        with kernels.use(name):
            kernel = kernels.choose(query, key, bias=bias)
            made = kernel(*inputs[:3], mask=mask, scale=0.5, bias=inputs[3])
        made.square().sum().backward()
        found[name] = [made, *(one.grad for one in inputs)]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
