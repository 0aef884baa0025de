"""The loss of hidden tokens and of next sentences: the formulas, counts that split."""

import pytest
import torch
from torch.nn import functional as F

from regard.models.bert import BERT, BERTConfig
from regard.objectives import MaskedLM

IGNORED = -100


def made(next_sentence=False):
    head = {"kind": "masked_lm", "next_sentence": next_sentence}
    sizes = {"d_model": 16, "layer.feed_forward.d_ff": 24, "max_positions": 16, "head": head}
    model = BERT(BERTConfig.preset("tiny", vocab_size=23, overrides=sizes)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def batch_of(rate=0.3):
    ids = torch.randint(4, 23, (4, 9))
    mask = torch.arange(9) < torch.tensor([[9], [7], [9], [8]])
    hidden = (torch.rand(4, 9) < rate) & mask
    return {
        "ids": ids.masked_fill(hidden, 22),
        "mask": mask,
        "segments": (torch.arange(9) > 4).long().expand(4, 9),
        "labels": torch.where(hidden, ids, IGNORED),
        "unrelated": torch.tensor([0, 1, 1, 0]),
    }


@pytest.mark.parametrize("next_sentence", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_is_the_formula(smoothing, next_sentence):
    model, batch = made(next_sentence), batch_of()
    objective = MaskedLM(label_smoothing=smoothing, next_sentence=next_sentence)
    terms = objective(model, batch)
    answer = model(batch["ids"], mask=batch["mask"], segments=batch["segments"])
    logits = (answer[0] if next_sentence else answer).flatten(0, 1)
    labels = batch["labels"].flatten()
    wanted = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(terms["loss"].sum, wanted)
    torch.testing.assert_close(terms["nll"].sum, F.cross_entropy(logits, labels, reduction="sum"))
    assert terms["nll"].weight == 0
    count = float((labels != IGNORED).sum())
    counts = {"loss": count, "nll": count}
    if next_sentence:
        pairs = F.cross_entropy(answer[1], batch["unrelated"], reduction="sum")
        torch.testing.assert_close(terms["next_sentence"].sum, pairs)
        assert terms["next_sentence"].weight == 1
        counts["next_sentence"] = 4.0
    assert objective.counts(batch) == {name: term.count for name, term in terms.items()} == counts


def test_gradients_are_the_formulas():
    model, batch = made(True), batch_of()
    terms = MaskedLM(next_sentence=True)(model, batch)
    (terms["loss"].sum + terms["next_sentence"].sum).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    logits, pairs = model(batch["ids"], mask=batch["mask"], segments=batch["segments"])
    loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
    (loss + F.cross_entropy(pairs, batch["unrelated"], reduction="sum")).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_a_split_adds_up():
    model, whole = made(True), batch_of()
    objective = MaskedLM(next_sentence=True)
    parts = [{name: tensor[rows] for name, tensor in whole.items()} for rows in ([0, 2], [1, 3])]
    split = [objective(model, part) for part in parts]
    for name, term in objective(model, whole).items():
        torch.testing.assert_close(sum(one[name].sum for one in split), term.sum)
        assert sum(one[name].count for one in split) == term.count


def test_nothing_is_hidden():
    model, batch = made(), batch_of()
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    term = MaskedLM()(model, batch)["loss"]
    assert (float(term.sum.detach()), term.count) == (0.0, 0.0)
    term.sum.backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in model.parameters())


def test_bfloat16():
    model, batch = made(True), batch_of()
    wide = MaskedLM(next_sentence=True)(model, batch)
    terms = MaskedLM(next_sentence=True)(model.bfloat16(), batch)
    for name, term in terms.items():
        assert term.sum.dtype == torch.float32
        torch.testing.assert_close(term.sum.double(), wide[name].sum, rtol=0.05, atol=0.5)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ValueError, match="mask_rate lies between 0 and 1"):
        MaskedLM(mask_rate=rate)
