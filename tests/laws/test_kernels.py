"""Law: each kernel gives what the formula gives, and its gradients."""

import math

import pytest
import torch
from torch import nn

from regard import registry
from regard.nn import (
    Attention,
    AttentionContext,
    AttentionSpec,
    Causal,
    Documents,
    Explicit,
    Full,
    Padding,
    Prefix,
    kernels,
    prepare,
)

B, H, QUERIES, KEYS = 2, 4, 5, 7
CPU = torch.device("cpu")
NAMES = registry.names("kernels")
IN_C = ["few", "short"]

# How far from the formula in float64, relative to values of size 1.
BOUNDS = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.bfloat16: 2e-2,
    torch.float16: 3e-3,
}


def padding(*lengths):
    return Padding(torch.arange(KEYS) < torch.tensor(lengths)[:, None])


def table(seed):
    seen = torch.rand(B, QUERIES, KEYS, generator=torch.Generator().manual_seed(seed)) < 0.5
    seen[0, 1] = seen[1, 4] = False
    return Explicit(seen)


# Rule, queries, keys, first query's slot.
MASKS = {
    "full": (Full(), QUERIES, KEYS, 0),
    "causal": (Causal(), KEYS, KEYS, 0),
    "causal, later steps": (Causal(), QUERIES, KEYS, KEYS - QUERIES),
    "causal, one step": (Causal(), 1, KEYS, KEYS - 1),
    "padding": (padding(KEYS, 3), QUERIES, KEYS, 0),
    "padding of nothing": (padding(KEYS, KEYS), QUERIES, KEYS, 0),
    "causal and padding": (Causal() & padding(4, 2), KEYS, KEYS, 0),
    "documents": (Documents(torch.tensor([[0, 0, 1, 1, 1, 2, 2]] * B)), KEYS, KEYS, 0),
    "prefix": (Causal() | Prefix(torch.tensor([3, 0])), KEYS, KEYS, 0),
    "explicit, blind rows": (table(0), QUERIES, KEYS, 0),
    "a row of padding": (padding(KEYS, 0), QUERIES, KEYS, 0),
    "left padding under causal": (
        Causal() & Padding(torch.arange(KEYS) >= torch.tensor([[2], [5]])),
        KEYS,
        KEYS,
        0,
    ),
    "all blind": (padding(0, 0), QUERIES, KEYS, 0),
}


def by_hand(query, key, value, allowed, scale, bias):
    """Equation 1, number by number."""
    mixed = torch.zeros(*query.shape[:3], value.shape[-1], dtype=torch.float64)
    groups = query.shape[1] // key.shape[1]
    for b, h, i in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        exponents = {}
        for j in range(key.shape[2]):
            if allowed[b, 0, i, j]:
                score = float(query[b, h, i] @ key[b, h // groups, j]) * scale
                exponents[j] = math.exp(score + (0.0 if bias is None else float(bias[0, h, i, j])))
        for j, exponent in exponents.items():
            mixed[b, h, i] += exponent / sum(exponents.values()) * value[b, h // groups, j]
    return mixed


def tensors(queries, keys, *, kv_heads=H, d_key=6, d_value=3, dtype=torch.float64):
    shapes = [
        (B, H, queries, d_key),
        (B, kv_heads, keys, d_key),
        (B, kv_heads, keys, d_value),
        (1, H, queries, keys),
    ]
    return [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in shapes]


def with_gradients(kernel, leaves, **settings):
    query, key, value, bias = (x if x is None else x.clone().requires_grad_() for x in leaves)
    mixed = kernel(query, key, value, bias=bias, **settings)
    torch.manual_seed(5)
    up = torch.randn(mixed.shape, dtype=torch.float64).to(mixed.dtype)
    wanted = [x for x in (query, key, value, bias) if x is not None]
    return mixed, torch.autograd.grad(mixed, wanted, up)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kv_heads", [H, 2, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_the_formula_is_the_paper_s(mask, kv_heads, biased):
    rule, queries, keys, offset = MASKS[mask]
    form = prepare(rule, queries, keys, device=CPU, offset=offset)
    query, key, value, bias = tensors(queries, keys, kv_heads=kv_heads)
    bias = bias if biased else None
    slots = torch.arange(keys)
    allowed = rule.allows(slots[offset : offset + queries], slots).expand(B, 1, queries, keys)
    truth = by_hand(query, key, value, allowed, 0.4, bias)
    made = registry.kind("kernels", "dense")(query, key, value, mask=form, scale=0.4, bias=bias)
    torch.testing.assert_close(made, truth, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("by_parts")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", IN_C)
def test_kernels_of_c_where_there_is_no_compiler(name, mask):
    test_each_kernel_is_the_formula(name, mask, torch.float32)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_each_kernel_is_the_formula(name, mask, dtype):
    rule, queries, keys, offset = MASKS[mask]
    form = prepare(rule, queries, keys, device=CPU, offset=offset)
    dense, kernel = registry.kind("kernels", "dense"), registry.kind("kernels", name)
    settings = {"mask": form, "scale": 0.4}
    for kv_heads, d_value, biased in [(H, 6, False), (H, 3, True), (2, 9, True), (1, 6, False)]:
        leaves = tensors(queries, keys, kv_heads=kv_heads, d_value=d_value, dtype=dtype)
        leaves[3] = leaves[3] if biased else None
        made, gradients = with_gradients(kernel, leaves, **settings)
        wide = [None if x is None else x.double() for x in leaves]
        truth, expected = with_gradients(dense, wide, **settings)
        assert made.dtype == dtype
        assert made.shape == (B, H, queries, d_value)
        bound = BOUNDS[dtype]
        torch.testing.assert_close(made.double(), truth, rtol=bound, atol=bound)
        for ours, theirs in zip(gradients, expected, strict=True):
            assert ours.isfinite().all()
            size = max(1.0, float(theirs.abs().max()))
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=4 * bound * size)
        if form.blind is not None:
            blind = form.blind.expand(B, H, queries, d_value)
            assert (made[blind] == 0).all()


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_large_scores_overflow_nowhere(name, dtype):
    """Scores of ±100 and a masked key beside them: weights are one and zero."""
    kernel = registry.kind("kernels", name)
    query = torch.full((1, 1, 1, 4), 5.0, dtype=dtype)
    key = torch.tensor([[5.0], [-5.0], [4.0]], dtype=dtype).expand(1, 1, 3, 4).contiguous()
    value = torch.tensor([[1.0], [2.0], [3.0]], dtype=dtype)[None, None]
    form = prepare(Padding(torch.tensor([[False, True, True]])), 1, 3, device=CPU)
    made = kernel(query, key, value, mask=form, scale=1.0)
    assert made.item() == 3.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_keys_far_below_the_others_stay_out_of_a_masked_row(name, dtype):
    """The finite value that stands for "may not see" lies below any score."""
    kernel = registry.kind("kernels", name)
    query, key = torch.ones(1, 1, 1, 1, dtype=dtype), torch.ones(1, 1, 2, 1, dtype=dtype)
    value = torch.tensor([[7.0], [1.0]], dtype=dtype)[None, None]
    bias = torch.tensor([[0.0, -1e30]], dtype=dtype)[None, None]
    form = prepare(Padding(torch.tensor([[False, True]])), 1, 2, device=CPU)
    assert kernel(query, key, value, mask=form, scale=1.0, bias=bias).item() == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_dropout_falls_on_the_weights(name):
    """With the identity as values the mixed rows are the weights themselves."""
    kernel, p = registry.kind("kernels", name), 0.3
    query, key = torch.randn(2, 3, 40, 8), torch.randn(2, 3, 40, 8)
    value = torch.eye(40).expand(2, 3, 40, 40)
    form = prepare(Causal(), 40, 40, device=CPU)
    whole = kernel(query, key, value, mask=form, scale=0.3)
    dropped = kernel(query, key, value, mask=form, scale=0.3, dropout=p)
    seen = whole > 0
    kept = dropped != 0
    assert not kept[~seen].any()
    assert kept[seen].float().mean().item() == pytest.approx(1 - p, abs=0.03)
    torch.testing.assert_close(dropped[kept], whole[kept] / (1 - p))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_not_changed(name):
    form = prepare(padding(4, 0), QUERIES, KEYS, device=CPU)
    leaves = tensors(QUERIES, KEYS)
    before = [x.clone() for x in leaves]
    with torch.no_grad():
        registry.kind("kernels", name)(*leaves[:3], bias=leaves[3], mask=form, scale=0.5)
    for ours, old in zip(leaves, before, strict=True):
        assert torch.equal(ours, old)


def test_the_rule_chooses_a_known_kernel_and_use_forces_one():
    query = torch.randn(1, 2, 3, 4)
    for length in (3, 5_000):
        assert kernels.choose(query, torch.randn(1, 2, length, 4)) in known()
    with kernels.use("dense"):
        assert kernels.choose(query, query) is registry.kind("kernels", "dense")
        with kernels.use("fused"):
            assert kernels.choose(query, query) is registry.kind("kernels", "fused")
        assert kernels.choose(query, query) is registry.kind("kernels", "dense")


def known():
    return [registry.kind("kernels", name) for name in NAMES]


@pytest.fixture
def attention() -> tuple[nn.Module, torch.Tensor, AttentionContext]:
    module = Attention(AttentionSpec(num_heads=2), 8).double()
    form = prepare(Causal(), 5, 5, device=CPU)
    return module, torch.randn(3, 5, 8, dtype=torch.float64), AttentionContext(form)


def test_watching_changes_nothing_and_shows_the_weights(attention):
    module, states, context = attention
    seen = []
    with kernels.watch(lambda owner, weights: seen.append((owner, weights))):
        watched = module(states, context)
    torch.testing.assert_close(watched, module(states, context), rtol=0, atol=1e-13)
    [(owner, weights)] = seen
    assert owner is module
    assert weights.shape == (3, 2, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert not weights.triu(1).any()
    assert not kernels.observed()


def test_a_head_switched_off_adds_nothing(attention):
    module, states, context = attention
    whole = module(states, context)
    with kernels.switch_off(module, [0]):
        second = module(states, context)
    with kernels.switch_off(module, [1]):
        first = module(states, context)
    with kernels.switch_off(module, [0, 1]):
        neither = module(states, context)
    torch.testing.assert_close(neither, module.output.bias.expand_as(neither))
    torch.testing.assert_close(first + second - neither, whole, rtol=0, atol=1e-13)
    assert not torch.allclose(first, whole)
