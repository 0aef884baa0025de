"""Losses of classes, sets of classes and numbers: torch's formulas, and what is counted."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard.data.framed import IGNORED as UNLABELED
from regard.look.trace import IGNORED as UNSEEN
from regard.models.bert import BERT, BERTConfig
from regard.objectives.classes import IGNORED, Classes, MultiLabel, Regression

B, T, C = 6, 5, 4


@pytest.fixture
def bert():
    def make(head, classes=C):
        torch.manual_seed(0)
        sizes = {"d_model": 16, "layer.feed_forward.d_ff": 24, "max_positions": 16}
        heads = {"head": {"kind": head, "num_classes": classes}}
        config = BERTConfig.preset("tiny", vocab_size=23, overrides={**sizes, **heads})
        made = BERT(config).double().eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return made

    return make


def batch(labels):
    torch.manual_seed(1)
    mask = torch.arange(T) < torch.tensor([5, 3, 5, 4, 1, 2])[:, None]
    segments = torch.randint(2, (B, T))
    return {
        "ids": torch.randint(23, (B, T)),
        "mask": mask,
        "segments": segments,
        "labels": labels,
        "example": torch.arange(B),
    }


def logits(model, given):
    return model(given["ids"], mask=given["mask"], segments=given["segments"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_a_text(bert, smoothing):
    model, given = bert("classification"), batch(torch.randint(C, (B,)))
    terms, made = Classes(smoothing)(model, given), logits(model, given)
    wanted = F.cross_entropy(made, given["labels"], reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(terms["loss"].sum, wanted)
    nll = F.cross_entropy(made, given["labels"], reduction="sum")
    torch.testing.assert_close(terms["nll"].sum, nll)
    assert int(terms["error"].sum) == int((made.argmax(1) != given["labels"]).sum())
    assert {term.count for term in terms.values()} == {float(B)}
    assert [terms[name].weight for name in ("loss", "nll", "error")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_a_token(bert, smoothing):
    labels = torch.randint(C, (B, T))
    labels[torch.rand(B, T) < 0.5] = IGNORED
    model, given = bert("tokens"), batch(labels)
    terms, made = Classes(smoothing)(model, given), logits(model, given)
    wanted = F.cross_entropy(
        made.transpose(1, 2), labels, reduction="sum", label_smoothing=smoothing
    )
    torch.testing.assert_close(terms["loss"].sum, wanted)
    real = labels != IGNORED
    assert terms["loss"].count == float(real.sum())
    assert int(terms["error"].sum) == int((made.argmax(-1) != labels)[real].sum())


def test_nothing_counts(bert):
    model, given = bert("tokens"), batch(torch.full((B, T), IGNORED))
    term = Classes()(model, given)["loss"]
    assert (float(term.sum.detach()), term.count) == (0.0, 0.0)
    term.sum.backward()
    assert all(not bool(p.grad.any()) for p in model.parameters() if p.grad is not None)


def test_any_number_of_classes(bert):
    model, given = bert("classification"), batch(torch.randint(2, (B, C)).float())
    term = MultiLabel()(model, given)["loss"]
    mean = F.binary_cross_entropy_with_logits(logits(model, given), given["labels"].double())
    torch.testing.assert_close(term.sum / term.count, mean)
    assert term.count == B * C


def test_a_number(bert):
    model, given = bert("classification", 1), batch(torch.randn(B))
    term = Regression()(model, given)["loss"]
    wanted = F.mse_loss(logits(model, given)[:, 0], given["labels"].double())
    torch.testing.assert_close(term.sum / term.count, wanted)
    assert term.count == B


CASES = [
    (Classes(0.1), "classification", lambda: torch.randint(C, (B,))),
    (
        Classes(),
        "tokens",
        lambda: torch.where(torch.rand(B, T) < 0.4, IGNORED, torch.randint(C, (B, T))),
    ),
    (MultiLabel(), "classification", lambda: torch.randint(2, (B, C)).float()),
    (Regression(), "classification", lambda: torch.randn(B)),
]


@pytest.mark.parametrize(("objective", "head", "labels"), CASES)
def test_counts_are_those_of_the_forward(bert, objective, head, labels):
    model, given = bert(head), batch(labels())
    terms = objective(model, given)
    assert objective.counts(given) == {name: term.count for name, term in terms.items()}
    assert tuple(terms) == objective.terms


@pytest.mark.parametrize(("objective", "head", "labels"), CASES)
def test_a_split_batch_gives_the_same_sums_and_gradients(bert, objective, head, labels):
    model, given = bert(head), batch(labels())
    whole = objective(model, given)
    whole["loss"].sum.backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    parts = [{name: one[rows] for name, one in given.items()} for rows in ([0, 1], [2, 3, 4, 5])]
    found = [objective(model, part) for part in parts]
    for name, term in whole.items():
        torch.testing.assert_close(sum(one[name].sum for one in found), term.sum)
        assert sum(one[name].count for one in found) == term.count
    for one in found:
        one["loss"].sum.backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize(("objective", "head", "labels"), CASES)
def test_every_parameter_gets_a_gradient(bert, objective, head, labels):
    """So that ranks need not look for parameters that have none."""
    model = bert(head)
    objective(model, batch(labels()))["loss"].sum.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("objective", "head", "labels"), CASES)
def test_sums_are_float32_at_least(objective, head, labels):
    class Narrow(nn.Module):
        def forward(self, ids, mask, segments):
            return (
                torch.randn(B, T, C).bfloat16()
                if head == "tokens"
                else torch.randn(B, C).bfloat16()
            )

    terms = objective(Narrow(), batch(labels()))
    assert {term.sum.dtype for term in terms.values()} == {torch.float32}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_examples_have_two_labels(smoothing: float) -> None:
    """As with soft targets: the share of a class is what the example has of it."""
    torch.manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    batch = {
        "pixels": torch.zeros(4, 1, 2, 2),
        "labels": torch.tensor([0, 1, 2, 1]),
        "others": torch.tensor([1, 2, 1, 0]),
        "share": torch.full((4,), 0.7),
    }
    soft = 0.7 * nn.functional.one_hot(batch["labels"], 3)
    soft = soft + 0.3 * nn.functional.one_hot(batch["others"], 3)
    soft = (1 - smoothing) * soft + smoothing / 3
    terms = Classes(smoothing)(lambda pixels: logits, batch)
    wanted = -(soft * logits.log_softmax(dim=1)).sum()
    torch.testing.assert_close(terms["loss"].sum, wanted, rtol=1e-6, atol=0)
    assert terms["error"].sum == (logits.argmax(dim=1) != batch["labels"]).sum()
    counts = Classes(smoothing).counts(batch)
    assert {name: term.count for name, term in terms.items()} == counts


def test_data_losses_and_pictures_leave_out_the_same_label():
    assert UNLABELED == IGNORED == UNSEEN
