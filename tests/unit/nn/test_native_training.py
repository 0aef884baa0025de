"""Operators of training in C++: norms, dropout and attention give what the parts give."""

import pytest
import torch
from torch.nn import functional as F

from regard.nn import Causal, Full, NormSpec, Padding, Residual, kernels, make_norm, native, prepare
from regard.nn.dropout import Dropout
from regard.nn.kernels.dense import dense
from regard.nn.kernels.packed import packed
from regard.nn.kernels.short import short
from regard.nn.masks import MaskForm
from regard.nn.native import operators
from regard.nn.norms import norm_sum

CPU = torch.device("cpu")
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 0.03}
NORMS = [NormSpec(), NormSpec(bias=False), NormSpec("rmsnorm")]


@pytest.fixture(autouse=True)
def there():
    if not native.load():
        pytest.skip("there is no compiler here")


@pytest.fixture(params=[1, 2])
def threads(request):
    torch.set_num_threads(request.param)
    return request.param


def close(made, truth, dtype):
    made, truth = made.detach(), truth.detach()
    bound = BOUNDS[dtype] * max([1.0, *truth.abs().flatten().tolist()])
    torch.testing.assert_close(made.double(), truth, rtol=0, atol=bound)


def norm_of(spec, width, dtype):
    norm = make_norm(spec, width).to(dtype)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    return norm


def with_gradients(made, inputs, up):
    return [made.detach(), *torch.autograd.grad(made, inputs, up.to(made.dtype))]


@pytest.fixture
def calls(monkeypatch):
    """What goes to the norm's operator."""
    found, real = [], operators.norm
    monkeypatch.setattr(operators, "norm", lambda *a, **k: (found.append(a), real(*a, **k))[1])
    return found


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("width", [5, 15, 16, 33, 512])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_rms_norms_alone(dtype, width, rows, threads, calls):
    norm = norm_of(NormSpec("rmsnorm"), width, dtype)
    states = (3 * torch.randn(2, rows, width) + 1).to(dtype).requires_grad_()
    up = torch.randn(2, rows, width)
    made = with_gradients(norm(states), [states, norm.weight], up)
    assert len(calls) == 1
    wide = norm_of(NormSpec("rmsnorm"), width, torch.float64)
    wide.load_state_dict(norm.state_dict())
    exact = states.detach().double().requires_grad_()
    truth = with_gradients(wide(exact), [exact, wide.weight], up)
    for ours, theirs in zip(made, truth, strict=True):
        assert ours.dtype == dtype
        close(ours, theirs, dtype)


@pytest.mark.parametrize("spec", NORMS, ids=repr)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("width", [5, 16, 31, 32, 50, 512])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("rows", [1, 70])
def test_a_norm_of_a_sum_with_dropout(spec, dtype, width, rows, p, threads, calls):
    norm, dropout = norm_of(spec, width, dtype), Dropout(p)
    states, residual = (torch.randn(5, rows, width).to(dtype).requires_grad_() for _ in range(2))
    up = torch.randn(5, rows, width)
    torch.manual_seed(1)
    inputs = [states, residual, *norm.parameters()]
    made = with_gradients(norm_sum(norm, dropout, residual, states), inputs, up)
    torch.manual_seed(1)
    kept = (dropout(torch.ones_like(states)) != 0).double()  # the same seed drops the same
    assert len(calls) == 1
    wide = norm_of(spec, width, torch.float64)
    wide.load_state_dict(norm.state_dict())
    exact = [x.detach().double().requires_grad_() for x in (states, residual)]
    summed = exact[1] + exact[0] * kept / (1 - round(p * 65536) / 65536)
    if dtype == torch.bfloat16:  # what is kept is rounded
        summed = summed + (summed.bfloat16().double() - summed).detach()
    truth = with_gradients(wide(summed), [*exact, *wide.parameters()], up)
    for ours, theirs in zip(made, truth, strict=True):
        close(ours, theirs, dtype)


def test_outside_training_nothing_is_dropped():
    norm, dropout = make_norm(NormSpec(), 8), Dropout(0.5).eval()
    states, residual = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    made = norm_sum(norm, dropout, residual, states)
    torch.testing.assert_close(made, F.layer_norm(states + residual, (8,)))


def test_a_hook_on_the_norm_is_called():
    seen = []
    norm = make_norm(NormSpec(), 8)
    norm.register_forward_hook(lambda _, inputs, made: seen.append((inputs[0], made)))
    states, residual = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    made = norm_sum(norm, Dropout(0.0), residual, states)
    ((summed, normed),) = seen
    assert torch.equal(summed, states + residual)
    assert torch.equal(normed, made)


@pytest.mark.parametrize("hook", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_a_hook_on_the_norm_s_gradient_is_called(hook):
    seen = []
    norm = make_norm(NormSpec(), 8)
    getattr(norm, hook)(lambda *given: seen.append(given) and None)
    states = torch.randn(2, 3, 8, requires_grad=True)
    norm_sum(norm, Dropout(0.0), states, states).sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("spec", NORMS, ids=repr)
def test_a_norm_made_of_ours_stays_what_it_is(spec):
    """As a plug-in's, or as parametrizations and FSDP make one by another class."""
    ours = make_norm(spec, 8)
    states = torch.randn(2, 8, requires_grad=True)
    expected, summed = ours(states), norm_sum(ours, Dropout(0.0), states, states)
    ours.__class__ = type("Own", (type(ours),), {})
    torch.testing.assert_close(ours(states), expected)
    torch.testing.assert_close(norm_sum(ours, Dropout(0.0), states, states), summed)


def test_a_weight_of_another_type_goes_by_the_parts(calls):
    norm, states = make_norm(NormSpec(), 8).double(), torch.randn(2, 8, requires_grad=True)
    with pytest.raises(RuntimeError):  # as torch says it
        norm_sum(norm, Dropout(0.0), states, states)
    assert calls == []


def test_frozen_weights():
    norm, states = make_norm(NormSpec(), 8), torch.randn(2, 8, requires_grad=True)
    norm.requires_grad_(False)
    norm_sum(norm, Dropout(0.0), states, states).square().sum().backward()
    assert norm.weight.grad is None
    assert states.grad is not None


def test_a_norm_of_others_is_called():
    class Own(torch.nn.LayerNorm):
        """One that a plug-in brings."""

        def forward(self, states):
            return super().forward(states) + 1

    residual = Residual(torch.nn.Identity(), 8, norm=NormSpec(), placement="post", dropout=0.0)
    residual.norm = Own(8)
    states = torch.randn(2, 3, 8, requires_grad=True)
    torch.testing.assert_close(residual(states), F.layer_norm(2 * states, (8,)) + 1)


def test_residuals_take_it_in_one_pass(calls):
    residual = Residual(torch.nn.Identity(), 8, norm=NormSpec(), placement="post", dropout=0.1)
    residual(torch.randn(2, 3, 8, requires_grad=True)).sum().backward()
    ((states, beside, *_),) = calls
    assert states.shape == beside.shape == (2, 3, 8)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_strided_rows_and_gradients(dtype, calls):
    norm = norm_of(NormSpec(), 6, dtype)
    states, residual = (torch.randn(6, 4, 5).to(dtype).requires_grad_() for _ in range(2))
    made = norm_sum(norm, Dropout(0.0), residual.permute(2, 1, 0), states.permute(2, 1, 0))
    made = with_gradients(made.transpose(0, 1), [states, residual], torch.randn(4, 5, 6))
    assert made[1].shape == states.shape
    assert len(calls) == 1
    torch.testing.assert_close(made[1], made[2])


def test_threads_change_no_bit():
    """Of dropout, of sums over rows, of attention."""
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        norm, dropout = norm_of(NormSpec(), 33, torch.float32), Dropout(0.4)
        states = torch.randn(6, 120, 33, requires_grad=True)
        query = torch.randn(6, 3, 120, 11, requires_grad=True)
        normed = norm_sum(norm, dropout, states, dropout(states))
        form = prepare(Causal(), 120, 120, device=CPU)
        mixed = short(query, query, query, mask=form, scale=0.5, dropout=0.2)
        (normed.square().sum() + mixed.square().sum()).backward()
        found.append([normed, mixed, states.grad, query.grad, norm.weight.grad, norm.bias.grad])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_what_is_not_finite_shows():
    norm = make_norm(NormSpec(), 20)
    states = torch.randn(4, 20)
    query = torch.randn(1, 1, 4, 8)
    for odd in (float("nan"), float("inf")):
        assert Dropout(0.9)(torch.full((1000,), odd)).isfinite().sum() == 0
        broken = states.clone()
        broken[2, 3] = odd
        made = norm_sum(norm, Dropout(0.0), broken.requires_grad_(), states)
        assert made[2].isnan().all()
        assert made[[0, 1, 3]].isfinite().all()
        wrong = query.clone()
        wrong[0, 0, 2, 1] = odd
        mixed = short(wrong, query, query, mask=prepare(Full(), 4, 4, device=CPU), scale=1.0)
        assert mixed[0, 0, 2].isnan().all()
        assert mixed[0, 0, :2].isfinite().all()


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("rule", ["full", "causal", "padding", "causal and padding"])
@pytest.mark.parametrize("length", [1, 16, 23, 24, 25, 49, 100])
def test_attention_of_every_length(length, rule, dtype, threads):
    real = torch.arange(length) < torch.tensor([[length], [max(1, length // 2)], [0]])
    rules = {"full": Full(), "causal": Causal(), "padding": Padding(real)}
    rules["causal and padding"] = Causal() & Padding(real)
    form = prepare(rules[rule], length, length, device=CPU)
    joint = torch.randn(3, length, 4 + 2 + 2, 20, dtype=torch.float64).to(dtype)
    up = torch.randn(3, 4, length, 20, dtype=torch.float64)
    results = []
    for kernel, kind in ((short, dtype), (dense, torch.float64)):
        leaf = joint.to(kind).requires_grad_()
        parts = leaf.transpose(1, 2).split([4, 2, 2], dim=1)
        mixed = kernel(*parts, mask=form, scale=0.3)
        results.append([mixed, *torch.autograd.grad(mixed, leaf, up.to(kind))])
    assert results[0][0].dtype == dtype
    for ours, truth in zip(*results, strict=True):
        close(ours, truth, dtype)


@pytest.mark.parametrize("queries", [30, 70])
@pytest.mark.parametrize("keys", [5, 31, 40, 70])
@pytest.mark.parametrize("masked", [False, True])
def test_the_backward_pass_drops_what_the_forward_pass_dropped(queries, keys, masked):
    """Against the formula with those weights set to zero, read off by the identity as values."""
    p, scale = 0.3, 0.4
    real = torch.arange(keys) < torch.tensor([[keys], [keys // 2]])
    form = prepare(Padding(real) if masked else Full(), queries, keys, device=CPU)
    query, key = torch.randn(2, 4, queries, 8), torch.randn(2, 2, keys, 8)
    torch.manual_seed(4)
    eye = torch.eye(keys).expand(2, 2, keys, keys).contiguous()
    kept = short(query, key, eye, mask=form, scale=scale, dropout=p) != 0
    seen = torch.ones(2, 1, queries, keys, dtype=torch.bool) if not masked else form.allowed
    assert not (kept & ~seen).any()
    assert kept[seen.expand_as(kept)].double().mean().item() == pytest.approx(1 - p, abs=0.05)

    value, up = torch.randn(2, 2, keys, 6), torch.randn(2, 4, queries, 6)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    torch.manual_seed(4)
    made = with_gradients(short(*leaves, mask=form, scale=scale, dropout=p), leaves, up)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    scores = (exact[0] @ exact[1].repeat_interleave(2, 1).mT * scale).masked_fill(~seen, -1e300)
    weights = scores.softmax(-1) * kept / (1 - round(p * 65536) / 65536)
    truth = with_gradients(weights @ exact[2].repeat_interleave(2, 1), exact, up)
    for ours, theirs in zip(made, truth, strict=True):
        close(ours, theirs, torch.float32)


def test_no_two_queries_lose_the_same():
    """Of one head or sentence or of two; nor do two keys, nor two rows of states."""
    query, key = torch.randn(3, 4, 70, 8), torch.randn(3, 4, 64, 8)
    eye = torch.eye(64).expand(3, 4, 64, 64)
    mask = prepare(Full(), 70, 64, device=CPU)
    kept = short(query, key, eye.contiguous(), mask=mask, scale=0.3, dropout=0.5) != 0
    for rows in (kept.flatten(0, 2), kept.mT.flatten(0, 2), Dropout(0.5)(torch.ones(500, 70)) != 0):
        assert len(rows.unique(dim=0)) == len(rows)


def test_of_dropout_a_seed_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x), x)[1], lambda x: x):
        Dropout(0.5)(torch.randn(1000, requires_grad=True))
    assert kept == []


@pytest.mark.parametrize(("batch", "width"), [(0, 8), (2, 1)])
def test_no_sentences_and_single_columns(batch, width):
    query = torch.randn(batch, 2, 5, width, requires_grad=True)
    mixed = short(query, query, query, mask=prepare(Causal(), 5, 5, device=CPU), scale=1.0)
    mixed.sum().backward()
    assert query.grad.shape == query.shape


def test_a_mask_that_is_not_in_rows():
    allowed = torch.rand(2, 1, 6, 5) < 0.6
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 6, 4)
    form = MaskForm("dense", 5, 6, CPU, allowed.mT)
    made = short(query, key, key, mask=form, scale=1.0)
    torch.testing.assert_close(made, dense(query, key, key, mask=form, scale=1.0))


def test_what_is_not_for_it_goes_by_batched_products(monkeypatch):
    """Tables of scores, wide numbers."""
    calls = []
    spy = lambda *a, **k: (calls.append(1), packed(*a, **k))[1]  # noqa: E731
    monkeypatch.setattr("regard.nn.kernels.short.packed", spy)
    form = prepare(Full(), 4, 4, device=CPU)
    query = torch.randn(1, 2, 4, 6)
    short(query, query, query, mask=form, scale=1.0)
    assert calls == []
    short(query, query, query, mask=form, scale=1.0, bias=torch.randn(1, 2, 4, 4))
    wide = query.double()
    short(wide, wide, wide, mask=form, scale=1.0)
    assert len(calls) == 2
    assert not operators.serve_training(query, wide)
    assert not operators.serve_training(query.to("meta"))


def test_what_does_not_fit_is_refused():
    rows, other, weight = torch.randn(3, 8), torch.randn(3, 9), torch.ones(9)
    one, two = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 9)
    with pytest.raises(RuntimeError, match="rows do not fit"):
        operators.drop(rows, other, 0.1, 0)
    with pytest.raises(RuntimeError, match="weight does not fit"):
        operators.norm(rows, None, weight, None, centered=True, eps=1e-5, p=0.0, seed=0)
    with pytest.raises(RuntimeError, match="nothing to add"):
        operators.norm(rows, None, rows[0], None, centered=True, eps=1e-5, p=0.1, seed=0)
    with pytest.raises(RuntimeError, match="keys and values do not fit"):
        operators.short_attention(one, two, two, None, scale=1.0, p=0.0, seed=0)


def test_layouts_reach_the_projection_without_a_copy(monkeypatch):
    """The gradients of neighboring columns are written as one tensor."""
    monkeypatch.delattr(torch, "cat")
    joint = torch.randn(2, 7, 3, 4, 8, requires_grad=True)
    query, key, value = (x.transpose(1, 2) for x in joint.unbind(2))
    with kernels.use("short"):
        kernel = kernels.choose(query, key)
    mixed = kernel(query, key, value, mask=prepare(Causal(), 7, 7, device=CPU), scale=0.3)
    gradients = torch.autograd.grad(mixed.sum(), [query, key, value])
    assert len({one.untyped_storage().data_ptr() for one in gradients}) == 1
    assert [one.stride() for one in gradients] == [one.stride() for one in (query, key, value)]
