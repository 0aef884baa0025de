"""Smoothed cross-entropy: the chunked path against the formula, and against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard.nn import backend, native
from regard.objectives import CrossEntropy, Term, cross_entropy
from regard.objectives.cross_entropy import chunked_loss, plain_loss


@pytest.fixture(params=["C++", "parts"], autouse=True)
def path(request):
    """Every test of float32 and bfloat16 runs by C++ and by the parts."""
    if request.param == "C++" and not native.load():
        pytest.skip("there is no compiler here")
    return request.param


def inputs(rows, width, vocab, dtype, bias):
    torch.manual_seed(0)
    states = torch.randn(rows, width, dtype=dtype, requires_grad=True)
    weight = (torch.randn(vocab, width, dtype=dtype) * 0.3).requires_grad_()
    shift = torch.randn(vocab, dtype=dtype, requires_grad=True) if bias else None
    return states, weight, shift, torch.randint(vocab, (rows,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("awkward", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_chunked_equals_plain(monkeypatch, smoothing, bias, rows, awkward):
    if awkward:  # products want a multiple of five rows
        monkeypatch.setattr(backend, "rounded", lambda rows, dtype: -(-rows // 5) * 5)
    monkeypatch.setitem(cross_entropy.CHUNK_BYTES, "cpu", 1)
    monkeypatch.setattr(cross_entropy, "FEWEST_ROWS", rows)
    states, weight, shift, labels = inputs(11, 6, 29, torch.float64, bias)
    leaves = [x for x in (states, weight, shift) if x is not None]
    results = []
    for path in (chunked_loss, plain_loss):
        loss, nll = path(states, weight, shift, labels, smoothing)
        results.append([loss, nll, *torch.autograd.grad(loss * 1.7, leaves)])
        assert not nll.requires_grad
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [chunked_loss, plain_loss])
def test_gradcheck(function):
    states, weight, shift, labels = inputs(5, 4, 7, torch.float64, True)
    assert torch.autograd.gradcheck(
        lambda s, w, b: function(s, w, b, labels, 0.1)[0], (states, weight, shift)
    )


@pytest.mark.parametrize("function", [chunked_loss, plain_loss])
def test_equals_torch(function):
    states, weight, shift, labels = inputs(11, 6, 29, torch.float64, True)
    loss, nll = function(states, weight, shift, labels, 0.1)
    logits = F.linear(states, weight, shift)
    torch.testing.assert_close(
        loss, F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")
    )
    torch.testing.assert_close(nll, F.cross_entropy(logits, labels, reduction="sum"))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03), (torch.float16, 0.005)]
)
def test_narrow_types_stay_near_float64(dtype, tolerance):
    states, weight, shift, labels = inputs(64, 32, 301, torch.float64, True)
    narrow = [x.detach().to(dtype).requires_grad_() for x in (states, weight, shift)]
    wide = [x.detach().double().requires_grad_() for x in narrow]
    loss, nll = chunked_loss(*narrow, labels, 0.1)
    truth, truth_nll = plain_loss(*wide, labels, 0.1)
    assert loss.dtype == nll.dtype == torch.float32
    assert loss.item() == pytest.approx(truth.item(), rel=tolerance)
    assert nll.item() == pytest.approx(truth_nll.item(), rel=tolerance)
    for ours, exact in zip(
        torch.autograd.grad(loss, narrow), torch.autograd.grad(truth, wide), strict=True
    ):
        assert ours.dtype == dtype
        assert (ours.double() - exact).norm() <= tolerance * exact.norm()


def test_parts_of_wide_copies_add_up(monkeypatch):
    states, weight, shift, labels = inputs(40, 6, 29, torch.bfloat16, True)
    monkeypatch.setattr(cross_entropy, "FEWEST_ROWS", 16)
    monkeypatch.setitem(cross_entropy.CHUNK_BYTES, "cpu", 1)
    results = []
    for size in (2**20, 4 * 6 * 10, 1):  # whole, ten rows at once, one row
        monkeypatch.setattr(cross_entropy, "WIDENED_BYTES", size)
        loss, _ = chunked_loss(states, weight, shift, labels, 0.1)
        by_states, *others = torch.autograd.grad(loss, (states, weight, shift))
        results.append([loss, by_states, *others])
    for parts in results[1:]:
        for ours, whole in zip(parts, results[0], strict=True):
            torch.testing.assert_close(ours, whole)


def test_the_weight_is_not_copied_into_float32(monkeypatch):
    monkeypatch.setitem(cross_entropy.CHUNK_BYTES, "cpu", 1)
    vocab, width = 2048, 1024
    states, weight, _, labels = inputs(1100, width, vocab, torch.bfloat16, False)
    with torch.profiler.profile(profile_memory=True) as seen:
        chunked_loss(states, weight, None, labels, 0.1)[0].backward()
    taken = [event.self_cpu_memory_usage for event in seen.events()]
    widest = 4 * vocab * width
    assert [size for size in taken if size >= widest] == [widest]  # the gradient's own sum


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_of_confident_tokens_in_bfloat16(smoothing):
    """Where p is nearly 1, what counts is its distance from 1."""
    torch.manual_seed(0)
    vocab, width, rows = 2000, 128, 512
    weight = torch.randn(vocab, width) * width**-0.5
    labels = torch.randint(vocab, (rows,))
    states = weight[labels] * 14 + torch.randn(rows, width)
    narrow = [x.bfloat16().requires_grad_() for x in (states, weight)]
    wide = [x.detach().double().requires_grad_() for x in narrow]
    gradients = []
    for path, leaves in ((chunked_loss, narrow), (plain_loss, narrow), (plain_loss, wide)):
        loss, nll = path(*leaves, None, labels, smoothing)
        gradients.append(torch.autograd.grad(loss, leaves))
    assert nll.item() / rows < 0.05
    for ours, plain, truth in zip(*gradients, strict=True):
        error = (ours.double() - truth).norm() / truth.norm()
        assert error < 1.5 * (plain.double() - truth).norm() / truth.norm() + 1e-3


def test_a_label_that_is_none(path):
    states, weight, _, _ = inputs(3, 4, 7, torch.float32, False)
    said = "label 7 is out of range" if path == "C++" else "index 7 is out of bounds"
    with pytest.raises((IndexError, RuntimeError), match=said):
        chunked_loss(states, weight, None, torch.tensor([0, 7, 1]), 0.1)


def test_labels_that_stand_apart():
    states, weight, _, _ = inputs(4, 4, 7, torch.float32, False)
    labels = torch.randint(7, (4, 2))
    made = chunked_loss(states, weight, None, labels[:, 1], 0.1)
    torch.testing.assert_close(made, chunked_loss(states, weight, None, labels[:, 1].clone(), 0.1))


@pytest.mark.parametrize("size", [60.0, 1e4])
def test_confident_logits_stay_finite(size):
    states = torch.eye(3).requires_grad_()
    weight = (torch.eye(3) * size).requires_grad_()
    labels = torch.tensor([0, 1, 0])
    loss, nll = chunked_loss(states, weight, None, labels, 0.0)
    loss.backward()
    assert nll.item() == pytest.approx(size, rel=1e-5)
    assert states.grad.isfinite().all()
    assert weight.grad.isfinite().all()


def test_backward_twice_and_partial_gradients():
    states, weight, shift, labels = inputs(5, 4, 7, torch.float64, True)
    loss, _ = chunked_loss(states, weight, shift, labels, 0.1)
    first = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, weight)[0])
    loss, _ = chunked_loss(states.detach(), weight.detach(), shift, labels, 0.1)
    torch.autograd.grad(loss, shift)
    with torch.no_grad():
        again, _ = chunked_loss(states, weight, shift, labels, 0.1)
    assert not again.requires_grad
    assert again.item() == pytest.approx(loss.item())


class Echo(nn.Module):
    """Embeds the target alone; its head is tied to the embedding."""

    def __init__(self, vocab=13, width=4):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width).double()
        self.head = nn.Linear(width, vocab, bias=False).double()
        self.head.weight = self.embedding.weight

    def features(self, source_ids, target_ids, *, source_mask, target_mask):
        return self.embedding(target_ids)


def batch_of(lengths, vocab=13):
    torch.manual_seed(4)
    longest = max(lengths)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    ids = torch.randint(3, vocab, (len(lengths), longest)) * mask
    return {"source_ids": ids, "source_mask": mask, "target_ids": ids, "target_mask": mask}


def test_counts_and_sums_over_real_tokens_alone():
    objective, model, batch = CrossEntropy(0.1), Echo(), batch_of([5, 3, 2])
    terms = objective(model, batch)
    assert objective.decomposable
    assert isinstance(terms["loss"], Term)
    assert objective.counts(batch) == {"loss": 7.0, "nll": 7.0}
    assert {name: term.count for name, term in terms.items()} == objective.counts(batch)
    assert (terms["loss"].weight, terms["nll"].weight) == (1.0, 0.0)
    logits = model.head(model.embedding(batch["target_ids"][:, :-1]))
    labels = batch["target_ids"][:, 1:].masked_fill(~batch["target_mask"][:, 1:], -100)
    expected = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1, reduction="sum"
    )
    torch.testing.assert_close(terms["loss"].sum, expected)


def test_tied_weights_get_both_gradients():
    objective, model, batch = CrossEntropy(0.1), Echo(), batch_of([5, 3, 2])
    objective(model, batch)["loss"].sum.backward()
    logits = model.head(model.embedding(batch["target_ids"][:, :-1]))
    labels = batch["target_ids"][:, 1:].masked_fill(~batch["target_mask"][:, 1:], -100)
    loss = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1, reduction="sum"
    )
    expected = torch.autograd.grad(loss, model.head.weight)[0]
    torch.testing.assert_close(model.head.weight.grad, expected)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_impossible_smoothing(smoothing):
    with pytest.raises(ValueError, match="smoothing"):
        CrossEntropy(smoothing)
