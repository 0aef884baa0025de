"""The loss of a set of boxes: DETR's code as transformers has it, splits, matching."""

import itertools

import pytest
import torch
from torch import nn

from regard.nn.boxes import centered, corners, generalized_overlap
from regard.objectives.classes import IGNORED
from regard.objectives.set_prediction import SetPrediction

N, CLASSES = 7, 3


class Answers(nn.Module):
    """What a head answered, whatever it is asked."""

    def __init__(self, rows):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(rows, N, CLASSES + 1))
        self.boxes = nn.Parameter(torch.randn(rows, N, 4))

    def forward(self, pixels):
        rows = pixels[:, 0, 0, 0].long()
        return self.logits[rows], self.boxes[rows].sigmoid()


def batch_of(counts):
    labels = torch.full((len(counts), N), IGNORED)
    boxes = torch.zeros(len(counts), N, 4)
    for row, count in enumerate(counts):
        labels[row, :count] = torch.randint(CLASSES, (count,))
        boxes[row, :count] = torch.rand(count, 4) * 0.5 + 0.1
    pixels = torch.arange(len(counts)).float()[:, None, None, None]
    return {"pixels": pixels, "labels": labels, "boxes": boxes}


def means(objective, model, batch):
    return {
        name: float(t.sum.detach() / (t.count or 1)) for name, t in objective(model, batch).items()
    }


@pytest.mark.parametrize("counts", [(3, 0, 7, 1), (1,), (0, 2)])
@pytest.mark.filterwarnings("default")
def test_is_the_loss_of_yolos(counts):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    model, batch = Answers(len(counts)), batch_of(counts)
    config = transformers.YolosConfig(num_labels=CLASSES, num_detection_tokens=N)
    given = [
        {"class_labels": batch["labels"][row, :count], "boxes": batch["boxes"][row, :count]}
        for row, count in enumerate(counts)
    ]
    logits, boxes = model(batch["pixels"])
    expected, parts, _ = ForObjectDetectionLoss(logits, given, "cpu", boxes, config)
    terms = SetPrediction()(model, batch)
    made = sum(term.weight * term.sum / (term.count or 1) for term in terms.values())
    torch.testing.assert_close(made, expected)
    found = means(SetPrediction(), model, batch)
    for ours, theirs in (("loss", "loss_ce"), ("distance", "loss_bbox"), ("overlap", "loss_giou")):
        assert found[ours] == pytest.approx(parts[theirs].item(), rel=1e-5)
    ours = torch.autograd.grad(made, model.parameters())
    theirs = torch.autograd.grad(expected, model.parameters())
    torch.testing.assert_close(ours, theirs)


def test_no_other_match_costs_less():
    objective, batch = SetPrediction(), batch_of((3,))
    logits, placed = Answers(1)(batch["pixels"])
    logits, placed = logits.detach(), placed.detach()
    rows, tokens, targets = objective.match(logits, placed, batch["labels"], batch["boxes"])
    assert rows.tolist() == [0, 0, 0]
    assert sorted(targets.tolist()) == [0, 1, 2]

    def cost(pairs):
        total = 0.0
        for token, target in pairs:
            ours, theirs = placed[0, token], batch["boxes"][0, target]
            total -= logits[0, token].softmax(-1)[batch["labels"][0, target]]
            total += 5.0 * (ours - theirs).abs().sum()
            total -= 2.0 * generalized_overlap(corners(ours), corners(theirs))
        return float(total)

    best = min(
        cost(zip(order, range(3), strict=True)) for order in itertools.permutations(range(N), 3)
    )
    assert cost(zip(tokens, targets, strict=True)) == pytest.approx(best, abs=1e-5)


def test_a_split_adds_up():
    model, whole = Answers(4), batch_of((3, 0, 7, 1))
    parts = [{k: v[rows] for k, v in whole.items()} for rows in ([0, 1], [2], [3])]
    split = [SetPrediction()(model, part) for part in parts]
    for name, term in SetPrediction()(model, whole).items():
        torch.testing.assert_close(sum(one[name].sum for one in split), term.sum)
        assert sum(one[name].count for one in split) == pytest.approx(term.count)
        assert term.count == SetPrediction().counts(whole)[name]


def test_pictures_with_nothing_to_see_teach_the_classes_alone():
    model, batch = Answers(2), batch_of((0, 0))
    terms = SetPrediction()(model, batch)
    assert [terms[name].count for name in terms] == [pytest.approx(0.1 * 2 * N), 0, 0, 0]
    sum(term.sum for term in terms.values()).backward()
    assert model.logits.grad.any()
    assert not model.boxes.grad.any()


def test_answers_that_are_no_numbers_make_a_loss_that_is_none():
    model, batch = Answers(1), batch_of((2,))
    with torch.no_grad():
        model.logits.fill_(torch.nan)
    assert SetPrediction()(model, batch)["loss"].sum.isnan()


def test_weights_below_zero_are_refused():
    with pytest.raises(ValueError, match="not below 0"):
        SetPrediction(no_object=-0.1)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 1, 1), (3, 0, 4, 1), 0 - 2 / 4),
        ((0, 0, 2, 2), (1, 1, 1, 1), 0.0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
    ],
)
def test_overlap(one, other, expected):
    boxes = [torch.tensor(box, dtype=torch.float64) for box in (one, other)]
    assert float(generalized_overlap(*boxes)) == pytest.approx(expected)
    for box in boxes:
        assert torch.equal(corners(centered(box)), box)
