"""The packed kernel: its one function and its single steps, rows short and long, layouts."""

import pytest
import torch

from regard.nn import Attention, AttentionContext, AttentionSpec, Causal, Full, Padding, prepare
from regard.nn.kernels import layouts, packed
from regard.nn.kernels.dense import dense
from regard.nn.rows import find_rows

CPU = torch.device("cpu")


@pytest.fixture(params=["one function", "single steps"])
def path(request, monkeypatch):
    """Other devices and compilers take the single steps; here they are forced."""
    if request.param == "single steps":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    return request.param


@pytest.mark.parametrize("keys", [1, 5, 15, 16, 17, 40])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rows_short_and_long(path, keys, dtype):
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, n, width, dtype=dtype, requires_grad=True)
        for heads, n, width in ((4, 6, 8), (2, keys, 8), (2, keys, 3))
    )
    real = torch.arange(keys) < torch.tensor([[keys], [max(1, keys // 2)]])
    mask = prepare(Padding(real), 6, keys, device=CPU)
    up = torch.randn(2, 4, 6, 3, dtype=dtype)
    results = []
    for kernel in (packed.packed, dense):
        mixed = kernel(query, key, value, mask=mask, scale=0.4)
        results.append([mixed, *torch.autograd.grad(mixed, (query, key, value), up)])
    bound = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.06}[dtype]
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=bound, atol=bound)


@pytest.mark.parametrize("keys", [7, 20])
def test_gradcheck_with_dropout(keys):
    shapes = ((1, 4, 3, 2), (1, 2, keys, 2), (1, 2, keys, 2))
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    mask = prepare(Full(), 3, keys, device=CPU)

    def attend(query, key, value):
        torch.manual_seed(1)
        return packed.packed(query, key, value, mask=mask, scale=0.7, dropout=0.3)

    assert torch.autograd.gradcheck(attend, inputs)


def test_dropout_keeps_the_mean(path):
    torch.manual_seed(2)
    query, key = torch.randn(1, 2, 400, 4), torch.randn(1, 2, 30, 4)
    value = torch.ones(1, 2, 30, 1)
    mask = prepare(Full(), 400, 30, device=CPU)
    mixed = packed.packed(query, key, value, mask=mask, scale=0.5, dropout=0.25)
    assert mixed.mean().item() == pytest.approx(1.0, abs=0.02)
    assert mixed.std().item() > 0.05


def test_confident_rows_stay_finite(path):
    query = torch.full((1, 1, 2, 4), 1e4).requires_grad_()
    key = torch.tensor([1.0, -1.0, 0.5])[None, None, :, None].expand(1, 1, 3, 4)
    mask = prepare(Full(), 2, 3, device=CPU)
    mixed = packed.packed(query, key, key, mask=mask, scale=1.0)
    mixed.sum().backward()
    assert mixed.isfinite().all()
    assert query.grad.isfinite().all()


def columns(heads, widths, batch=2, length=3):
    """Views [B, heads, T, width] of neighboring columns of one tensor [B, T, columns]."""
    joint = torch.randn(batch, length, sum(h * w for h, w in zip(heads, widths, strict=True)))
    parts = torch.split(joint, [h * w for h, w in zip(heads, widths, strict=True)], dim=-1)
    return [
        part.unflatten(-1, (h, w)).transpose(1, 2)
        for part, h, w in zip(parts, heads, widths, strict=True)
    ]


def test_neighboring_columns_are_recognized():
    query, key, value = columns((4, 2, 2), (5, 5, 3))
    assert layouts._are_columns(query, key, value)
    assert layouts._are_columns(query, key) is False  # the rest of the projection is missing
    assert not layouts._are_columns(query, value, key)
    assert not layouts._are_columns(query, key, key)
    assert not layouts._are_columns(query, key, value.clone())
    assert not layouts._are_columns(*(x.transpose(1, 2) for x in (query, key, value)))
    assert not layouts._are_columns(query, query)


def test_what_stands_one_after_another_is_recognized():
    joint = torch.randn(2 * 3 * (20 + 10 + 10))
    query, key, value = (
        part.view(2, heads, 3, 5)
        for part, heads in zip(joint.split([120, 60, 60]), (4, 2, 2), strict=True)
    )
    assert layouts._are_stacked(query, key, value)
    assert not layouts._are_stacked(query, value, key)
    assert not layouts._are_stacked(query, key, key)
    assert not layouts._are_stacked(query, key, value.clone())
    assert not layouts._are_stacked(query, key, value.transpose(1, 2))


LAYOUTS = {
    "columns": lambda: columns((4, 2, 2), (8, 8, 8), length=6),
    "key and value": lambda: [*columns((4,), (8,), length=6), *columns((2, 2), (8, 8), length=6)],
    "stacked": lambda: [
        x.view(2, -1, 6, 8) for x in torch.randn(2 * 8 * 6 * 8).split([384, 192, 192])
    ],
    "expanded": lambda: (
        [torch.randn(2, 4, 6, 8)]
        + [torch.randn(2, 2, 1, 8).expand(-1, -1, 6, -1) for _ in range(2)]
    ),
    "one for all": lambda: [torch.randn(2, 4, 6, 8)] * 3,
    "every second": lambda: list(torch.randn(3, 2, 4, 6, 16)[..., ::2]),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_in_every_layout(layout, dtype):
    torch.manual_seed(3)
    torch.set_default_dtype(dtype)
    try:
        inputs = LAYOUTS[layout]()
    finally:
        torch.set_default_dtype(torch.float32)
    mask = prepare(Full(), 6, 6, device=CPU)
    results = []
    for kernel in (packed.packed, dense):
        parts = [x.detach().requires_grad_() for x in inputs]
        mixed = kernel(*parts, mask=mask, scale=0.4)
        results.append([mixed, *torch.autograd.grad(mixed.square().sum(), parts)])
    bound = {torch.float64: 1e-12, torch.bfloat16: 0.06}[dtype]
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=bound, atol=bound)


@pytest.mark.parametrize("length", [6, packed.SHORT_TEXTS + 2])
@pytest.mark.parametrize("layout", ["columns", "stacked"])
def test_bfloat16_is_kept_as_it_came(layout, length):
    """Of short texts too, whose products are float32; longer ones' fill their rooms directly."""
    parts = torch.randn(2, length, 3 * 4 * 8).bfloat16()
    if layout == "columns":
        inputs = [x.view(2, length, 4, 8).transpose(1, 2) for x in parts.split(32, dim=-1)]
    else:
        inputs = list(parts.view(3, 2, 4, length, 8))
    mask = prepare(Causal(), length, length, device=CPU)
    results, kept = [], []
    for kernel in (packed.packed, dense):
        leaves = [x.detach().requires_grad_() for x in inputs]
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: (kept.append((x.shape[-1], x.dtype)), x)[1], lambda x: x
        ):
            mixed = kernel(*leaves, mask=mask, scale=0.4)
        if kernel is packed.packed:
            assert kept.count((8, torch.bfloat16)) == 3
        results.append([mixed, *torch.autograd.grad(mixed.float().square().sum(), leaves)])
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=0.06, atol=0.06)


@pytest.mark.parametrize("d_memory", [None, 6])
def test_without_padding_too(monkeypatch, d_memory):
    """Under `Rows` the projections' gradients are whole before anybody joins them."""
    real = torch.arange(7) < torch.tensor([[7], [3]])
    spec = AttentionSpec(num_heads=4, num_kv_heads=2, d_key=3, d_value=3)
    attention = Attention(spec, 8, d_memory=d_memory)
    found = find_rows(Padding(real), torch.zeros(2, 7, 8))
    states = torch.randn(1, len(found.slots), 8, requires_grad=True)
    memory = None if d_memory is None else torch.randn(1, len(found.slots), d_memory)
    mask = prepare(Padding(real), 7, 7, device=CPU)
    context = AttentionContext(mask, rows=found, memory_rows=found)
    mixed = attention(states, context, memory).sum()
    monkeypatch.delattr(torch, "cat")
    mixed.backward()
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("d_memory", [None, 6])
def test_attention_gives_its_projection_gradients_without_a_copy(monkeypatch, d_memory):
    copies = []
    monkeypatch.setattr(torch, "cat", lambda *a, **k: copies.append(a))
    spec = AttentionSpec(num_heads=4, num_kv_heads=2, d_key=3, d_value=5)
    attention = Attention(spec, 8, d_memory=d_memory)
    states = torch.randn(2, 7, 8, requires_grad=True)
    memory = None if d_memory is None else torch.randn(2, 7, d_memory)
    rule = Causal() if memory is None else Full()
    context = AttentionContext(prepare(rule, 7, 7, device=CPU))
    attention(states, context, memory).sum().backward()
    assert copies == []
    assert states.grad.isfinite().all()
