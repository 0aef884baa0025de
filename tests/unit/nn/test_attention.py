"""Attention: closed-form gradients, projections, grouped heads, memory, settings."""

import pytest
import torch

from regard import registry
from regard.errors import RecipeError
from regard.nn import Attention, AttentionContext, AttentionSpec, Causal, Full, Padding, prepare
from regard.nn.cache import LayerCache

CPU = torch.device("cpu")
D = 8


def context(rule, queries, keys):
    return AttentionContext(prepare(rule, queries, keys, device=CPU))


def states(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def make(d_memory=None, **settings):
    return Attention(AttentionSpec(**{"num_heads": 2, **settings}), D, d_memory=d_memory).double()


@pytest.mark.parametrize("rule", [Full(), Causal()], ids=["full", "causal"])
@pytest.mark.parametrize("kernel", registry.names("kernels"))
def test_gradients_in_closed_form(kernel, rule):
    """With A = softmax(S), S = QKᵀ·scale, O = AV and dO the gradient of the output:

    dV = Aᵀ dO;  dA = dO Vᵀ;  dS = A ∘ (dA - rowsum(dA ∘ A));  dQ = dS K·scale;  dK = dSᵀ Q·scale.
    """
    batch, heads, length, d_key, d_value, scale = 2, 3, 5, 4, 6, 0.7
    query, key = states(batch, heads, length, d_key), states(batch, heads, length, d_key)
    value, by_output = states(batch, heads, length, d_value), states(batch, heads, length, d_value)
    mask = prepare(rule, length, length, device=CPU)

    scores = query @ key.mT * scale
    if mask.allowed is not None:
        scores = scores.masked_fill(~mask.allowed, float("-inf"))
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    by_value = weights.mT @ by_output
    by_weights = by_output @ value.mT
    by_scores = weights * (by_weights - (by_weights * weights).sum(-1, keepdim=True))
    by_query, by_key = by_scores @ key * scale, by_scores.mT @ query * scale

    leaves = [x.requires_grad_() for x in (query, key, value)]
    output = registry.kind("kernels", kernel)(*leaves, mask=mask, scale=scale)
    torch.testing.assert_close(output, weights @ value, rtol=0, atol=1e-12)
    found = torch.autograd.grad(output, leaves, by_output)
    for ours, theirs in zip(found, (by_query, by_key, by_value), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_self_attention_is_the_formula():
    """MultiHead(x) = Concat(head₁, …) Wᴼ with headᵢ = softmax(QᵢKᵢᵀ/√d_key) Vᵢ (section 3.2.2)."""
    module, x = make(d_key=3, d_value=5), states(2, 4, D)
    weights = {name: module.qkv.slice(name) for name in ("queries", "keys", "values")}
    q, k, v = (x @ weight.T + bias for weight, bias in weights.values())
    heads = []
    for i in range(2):
        qi, ki, vi = q[..., 3 * i : 3 * i + 3], k[..., 3 * i : 3 * i + 3], v[..., 5 * i : 5 * i + 5]
        heads.append((qi @ ki.mT / 3**0.5).softmax(-1) @ vi)
    truth = torch.cat(heads, dim=-1) @ module.output.weight.T + module.output.bias
    made = module(x, context(Full(), 4, 4))
    assert made.shape == (2, 4, D)
    torch.testing.assert_close(made, truth, rtol=0, atol=1e-12)


def test_cross_attention_reads_the_memory_alone():
    module, x, memory = make(d_memory=5), states(2, 3, D), states(2, 6, 5)
    seen = context(Full(), 3, 6)
    made = module(x, seen, memory)
    assert made.shape == (2, 3, D)
    key, value = module.project_memory(memory)
    assert key.shape == (2, 2, 6, 4)
    assert value.shape == (2, 2, 6, 4)
    cache = LayerCache()
    cache.memory = key, value
    torch.testing.assert_close(module(x, seen, None, cache), made, rtol=0, atol=0)
    one_by_one = [module(x[:, i : i + 1], context(Full(), 1, 6), memory) for i in range(3)]
    torch.testing.assert_close(torch.cat(one_by_one, dim=1), made, rtol=0, atol=1e-12)


def test_cross_attention_with_itself_as_memory_is_self_attention():
    own, cross, x = make(), make(d_memory=D), states(2, 4, D)
    with torch.no_grad():
        queries, keys, values = (own.qkv.slice(name)[0] for name in ("queries", "keys", "values"))
        cross.query.weight.copy_(queries)
        cross.key_value.weight.copy_(torch.cat([keys, values]))
        cross.output.weight.copy_(own.output.weight)
    seen = context(Causal(), 4, 4)
    torch.testing.assert_close(own(x, seen), cross(x, seen, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_are_repeated_ones(kv_heads):
    grouped = make(num_heads=4, num_kv_heads=kv_heads)
    full, x = make(num_heads=4), states(2, 5, D)
    with torch.no_grad():
        for name in ("queries", "keys", "values"):
            weight, _ = grouped.qkv.slice(name)
            if name != "queries":
                weight = (
                    weight.view(kv_heads, 2, D).repeat_interleave(4 // kv_heads, 0).flatten(0, 1)
                )
            full.qkv.slice(name)[0].copy_(weight)
        full.output.weight.copy_(grouped.output.weight)
    seen = context(Causal(), 5, 5)
    torch.testing.assert_close(grouped(x, seen), full(x, seen), rtol=0, atol=1e-12)


def test_the_scale_is_a_setting():
    x, seen = states(1, 4, D), context(Full(), 4, 4)
    usual, one = make(), make(scale=0.5)
    one.load_state_dict(usual.state_dict())
    assert usual.scale == 0.5  # 1/√4
    torch.testing.assert_close(usual(x, seen), one(x, seen), rtol=0, atol=0)
    flat = make(scale=0.0)
    flat.load_state_dict(usual.state_dict())
    _, _, values = flat.qkv(x)
    truth = flat.output(values.mean(1, keepdim=True)).expand(1, 4, D)
    torch.testing.assert_close(flat(x, seen), truth, rtol=0, atol=1e-12)


def test_a_blind_query_gives_the_output_bias():
    module, x = make(), states(2, 3, D)
    torch.nn.init.normal_(module.output.bias)
    real = torch.tensor([[True, True, True], [False, False, False]])
    made = module(x, context(Padding(real), 3, 3))
    torch.testing.assert_close(made[1], module.output.bias.expand(3, D), rtol=0, atol=0)


def test_parameters_by_name_and_shape():
    own = make(num_heads=4, num_kv_heads=2, d_key=3, d_value=5)
    assert {name: tuple(p.shape) for name, p in own.named_parameters()} == {
        "qkv.weight": (4 * 3 + 2 * 3 + 2 * 5, D),
        "qkv.bias": (28,),
        "output.weight": (D, 20),
        "output.bias": (D,),
    }
    cross = make(d_memory=7, bias=False)
    assert {name: tuple(p.shape) for name, p in cross.named_parameters()} == {
        "query.weight": (D, D),
        "key_value.weight": (2 * D, 7),
        "output.weight": (D, D),
    }


def test_projections_may_be_replaced():
    """An adapter takes a projection's place in the finished module."""

    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return tuple(2 * part for part in self.inner(x))

    module, x, seen = make(), states(1, 3, D), context(Full(), 3, 3)
    plain = module(x, seen)
    module.qkv = Doubled(module.qkv)
    assert not torch.allclose(module(x, seen), plain)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"num_heads": 3}, "num_heads"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads"),
        ({"num_heads": 3, "d_key": 2}, "num_heads"),
    ],
)
def test_heads_that_do_not_fit(settings, key):
    with pytest.raises(RecipeError, match=key):
        Attention(AttentionSpec(**settings), D)


def test_widths():
    assert AttentionSpec(num_heads=8).widths(512) == (64, 64)
    assert AttentionSpec(num_heads=8, d_key=16).widths(512) == (16, 64)
    assert AttentionSpec(num_heads=3, d_key=16, d_value=2).widths(512) == (16, 2)


def test_dropout_falls_on_weights_in_training_alone():
    module, x, seen = make(dropout=0.5), states(1, 4, D), context(Full(), 4, 4)
    assert not torch.equal(module(x, seen), module(x, seen))
    module.eval()
    assert torch.equal(module(x, seen), module(x, seen))
