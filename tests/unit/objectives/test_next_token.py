"""The loss of a language model: the formula, and documents that do not see each other."""

import pytest
import torch
from torch.nn import functional as F

from regard.data import BlockSettings, BlockSource, PreparedData
from regard.models import GPT, GPTConfig
from regard.objectives import NextToken

ROWS = [[10, 11, 12, 13], [14, 15], [16, 17, 18, 4, 5, 6, 7]]
SEPARATOR = 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24}
    config = GPTConfig.preset("nano-cpu", vocab_size=23, overrides=sizes)
    made = GPT(config).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_is_the_formula(model, smoothing):
    ids = torch.randint(23, (3, 9))
    terms = NextToken(smoothing)(model, {"ids": ids})
    logits, labels = model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
    wanted = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(terms["loss"].sum, wanted)
    nll = F.cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(terms["nll"].sum, nll)
    assert terms["loss"].count == terms["nll"].count == 24
    assert NextToken(smoothing).counts({"ids": ids}) == {"loss": 24.0, "nll": 24.0}


def test_only_what_counts(model):
    ids = torch.randint(23, (3, 9))
    counted = torch.rand(3, 9) < 0.4
    batch = {"ids": ids, "counted": counted}
    logits = model(ids[:, :-1])[counted[:, 1:]]
    wanted = F.cross_entropy(logits, ids[:, 1:][counted[:, 1:]], reduction="sum")
    terms, count = NextToken()(model, batch), float(counted[:, 1:].sum())
    torch.testing.assert_close(terms["loss"].sum, wanted)
    assert terms["loss"].count == count
    assert NextToken().counts(batch) == {"loss": count, "nll": count}


def test_nothing_counts(model):
    batch = {"ids": torch.randint(23, (2, 9)), "counted": torch.zeros(2, 9, dtype=torch.bool)}
    term = NextToken()(model, batch)["loss"]
    assert (float(term.sum.detach()), term.count) == (0.0, 0.0)
    term.sum.backward()
    assert all(not bool(p.grad.any()) for p in model.parameters())


def test_documents_in_one_block_are_as_if_alone(model):
    data = PreparedData.in_memory({"text": ROWS})
    batch = BlockSource(data, BlockSettings(15, 1, SEPARATOR, shuffle=False)).micro_batch(0, 0)
    assert batch["ids"].shape == (1, 16)
    objective = NextToken()
    # The positions go on through a block, so each is asked at its place.
    positions = torch.arange(15)[None]
    alone, start = 0.0, 0
    for row in ROWS:
        ids = torch.tensor([[SEPARATOR, *row, SEPARATOR]])
        places = positions[:, start : start + len(row) + 1]
        if start + ids.shape[1] > 16:  # after the last document nothing follows
            ids = ids[:, :-1]
        logits = model(ids[:, :-1], positions=places[:, : ids.shape[1] - 1])[0]
        alone += F.cross_entropy(logits, ids[0, 1:], reduction="sum")
        start += len(row) + 1
    torch.testing.assert_close(objective(model, batch)["loss"].sum, alone)
    del batch["documents"]
    assert abs(objective(model, batch)["loss"].sum - alone) > 1e-3


def test_smoothing_is_a_share():
    with pytest.raises(ValueError, match="label smoothing lies in"):
        NextToken(1.0)
