"""Law: gradients are those of finite differences; every parameter gets one."""

import pytest
import torch
from torch.autograd import gradcheck

from regard import registry
from regard.nn import (
    Attention,
    AttentionContext,
    AttentionSpec,
    Causal,
    EmbeddingSpec,
    FeedForward,
    FeedForwardSpec,
    HeadSpec,
    LanguageModelHead,
    LayerSpec,
    Linear,
    Memory,
    NormSpec,
    Padding,
    PositionSpec,
    Residual,
    SplitLinear,
    Stack,
    StackSpec,
    TokenEmbedding,
    kernels,
    make_norm,
    prepare,
)

from ._cases import kinds, law

D = 6
REAL = torch.tensor([[True] * 4, [True, True, False, False]])


def states(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def check(module, call, *inputs, fast=False):
    """Gradients by inputs and by every parameter, shaken so that none is 0 or 1.

    ``fast`` compares along random directions instead of element by element.
    """
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    leaves = [*inputs, *module.parameters()]

    def outputs(*leaves):
        return call(*leaves[: len(inputs)])

    assert gradcheck(outputs, leaves, atol=1e-7, rtol=1e-5, fast_mode=fast)


def context(rule, queries, keys):
    return AttentionContext(prepare(rule, queries, keys, device=torch.device("cpu")))


@pytest.mark.parametrize("kernel", registry.names("kernels"))
@pytest.mark.parametrize("kv_heads", [2, 1])
@pytest.mark.parametrize("rule", [Causal(), Causal() & Padding(REAL.flip(1))], ids=["c", "blind"])
def test_self_attention(kernel, kv_heads, rule):
    spec = AttentionSpec(num_heads=2, num_kv_heads=kv_heads, d_key=2, d_value=3)
    module, seen = Attention(spec, D), context(rule, 4, 4)
    with kernels.use(kernel):
        check(module, lambda x: module(x, seen), states(2, 4, D))


@pytest.mark.parametrize("kernel", registry.names("kernels"))
def test_cross_attention(kernel):
    spec = AttentionSpec(num_heads=2, bias=False)
    module, seen = Attention(spec, D, d_memory=5), context(Padding(REAL), 3, 4)
    with kernels.use(kernel):
        check(module, lambda x, m: module(x, seen, m), states(2, 3, D), states(2, 4, 5))


@pytest.mark.parametrize("activation", registry.names("activations"))
@pytest.mark.parametrize("kind", registry.names("feed_forwards"))
@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward(kind, activation, bias):
    spec = FeedForwardSpec(kind=kind, d_ff=5, activation=activation, bias=bias)
    module = registry.kind("feed_forwards", kind)(spec, D)
    check(module, module, states(2, 3, D))


@pytest.mark.parametrize("kind", registry.names("norms"))
@pytest.mark.parametrize("bias", [None, False])
def test_norm(kind, bias):
    module = make_norm(NormSpec(kind=kind, bias=bias), D)
    check(module, module, states(2, 3, D))


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_residual(placement):
    inner = FeedForward(FeedForwardSpec(d_ff=5, activation="gelu"), D)
    module = Residual(inner, D, norm=NormSpec(), placement=placement, dropout=0.0)
    check(module, module, states(2, 3, D))


def test_linear_maps():
    module = Linear(D, 4)
    check(module, module, states(2, D))
    split = SplitLinear(D, {"one": 2, "two": 3})
    check(split, split, states(2, D))


def test_embedding_and_head():
    ids = torch.tensor([[0, 3, 3], [1, 4, 0]])
    embedding = TokenEmbedding(5, D, scale=EmbeddingSpec().scale)
    check(embedding, lambda: embedding(ids))
    head = LanguageModelHead(D, 5, spec=HeadSpec(bias=True))
    check(head, head, states(2, 3, D))


@pytest.mark.parametrize("positions", kinds("positions"), ids=str)
@pytest.mark.parametrize("placement", ["post", "pre"])
def test_stack_with_memory(positions, placement):
    layer = LayerSpec(
        AttentionSpec(num_heads=2, d_key=4, d_value=2),
        FeedForwardSpec(d_ff=5, activation="gelu"),
        norm_placement=placement,
    )
    spec = StackSpec(2, PositionSpec.from_settings(positions, "positions"), layer)
    stack = Stack(spec, D, max_positions=4, input_dropout=0.0, mask=Causal(), d_memory=5).eval()

    def call(x, memory):
        return stack(x, mask=Padding(REAL), memory=Memory(memory, Padding(REAL)))

    check(stack, call, states(2, 4, D), states(2, 4, 5), fast=True)


@law()
def test_every_parameter_gets_a_gradient(case):
    model = case.model()
    made = case.everything(model, case.masked(batch=4, length=9))
    (made * torch.randn_like(made)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        assert parameter.grad.isfinite().all(), name


@law(every=5, pairs=False)
def test_gradients_of_the_whole_model_are_finite_differences(case):
    """Along one random direction of each parameter."""
    model = case.model()
    example = case.masked(batch=2, length=3)
    up = None

    def loss():
        nonlocal up
        made = case.everything(model, example)
        up = torch.randn_like(made) if up is None else up
        return (made * up).sum()

    loss().backward()
    step = 1e-7  # so short that a kink of ReLU seldom lies within
    for name, parameter in model.named_parameters():
        direction = torch.randn_like(parameter) / parameter.numel() ** 0.5
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
                values.append(loss())
                parameter -= sign * step * direction
        numeric = (values[0] - values[1]) / (2 * step)
        exact = (parameter.grad * direction).sum()
        torch.testing.assert_close(exact, numeric, rtol=1e-4, atol=1e-6, msg=f"gradient of {name}")
