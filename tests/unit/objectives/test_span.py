"""The loss of a span: the formula, padding, counts that split."""

import math

import pytest
import torch
from torch.nn import functional as F

from regard.models.bert import BERT, BERTConfig
from regard.objectives.span import Span, span_logits


@pytest.fixture
def model():
    sizes = {"d_model": 16, "layer.feed_forward.d_ff": 24, "max_positions": 16, "head": "span"}
    made = BERT(BERTConfig.preset("tiny", vocab_size=23, overrides=sizes)).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


def batch_of(lengths=(9, 5, 7, 9)):
    ids = torch.randint(4, 23, (len(lengths), max(lengths)))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    labels = torch.tensor([sorted(torch.randint(0, n, (2,)).tolist()) for n in lengths])
    return {"ids": ids, "mask": mask, "segments": (ids > 12).long(), "labels": labels}


def test_is_the_formula(model):
    batch = batch_of()
    terms = Span()(model, batch)
    logits = model(batch["ids"], mask=batch["mask"], segments=batch["segments"])
    loss = missed = 0.0
    for row, mask, (start, end) in zip(
        logits, batch["mask"], batch["labels"].tolist(), strict=True
    ):
        starts, ends = row[mask].T  # padding takes no part
        loss += (
            F.cross_entropy(starts, torch.tensor(start)) + F.cross_entropy(ends, torch.tensor(end))
        ) / 2
        missed += int(starts.argmax()) != start or int(ends.argmax()) != end
    torch.testing.assert_close(terms["loss"].sum, loss)
    assert float(terms["error"].sum) == missed
    assert terms["error"].weight == 0
    assert terms["loss"].count == terms["error"].count == 4
    assert Span().counts(batch) == {"loss": 4.0, "error": 4.0}


def test_a_split_adds_up(model):
    whole = batch_of()
    parts = [{name: tensor[rows] for name, tensor in whole.items()} for rows in ([0, 1, 2], [3])]
    split = [Span()(model, part) for part in parts]
    for name, term in Span()(model, whole).items():
        torch.testing.assert_close(sum(one[name].sum for one in split), term.sum)
        assert sum(one[name].count for one in split) == term.count


def test_what_padding_holds_changes_nothing(model):
    batch = batch_of()
    other = {**batch, "ids": batch["ids"].where(batch["mask"], 7)}
    torch.testing.assert_close(Span()(model, batch)["loss"].sum, Span()(model, other)["loss"].sum)


def test_logits_are_float32_and_closed_at_padding():
    logits = torch.randn(1, 3, 2, dtype=torch.bfloat16)
    found = span_logits(logits, torch.tensor([[True, True, False]]))
    assert (found.dtype, found.shape) == (torch.float32, (1, 2, 3))
    assert found[..., 2].tolist() == [[float("-inf")] * 2]
    assert found[0, 1, 0] == logits[0, 0, 1].float()


def test_an_untrained_model_guesses_blindly():
    config = BERTConfig.preset("tiny", vocab_size=23, overrides={"d_model": 16, "head": "span"})
    batch = batch_of((16,) * 8)
    loss = Span()(BERT(config).eval(), batch)["loss"]
    assert float(loss.sum.detach() / loss.count) == pytest.approx(math.log(16), abs=0.1)
