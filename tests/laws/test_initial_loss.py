"""Law: an untrained model's loss is about ln V + σ²/2, σ² the predicted variance of its logits.

Logits are states · rows of the head. With rows drawn at random of variance v, independent of the
states, they are normal with variance σ² = |state|² v, and the mean of ln Σ exp(logit) over V of
them is ln V + σ²/2; the labels' logits are 0 on average. One row is not independent where head and
embedding are tied, that of the token just read: its logit x adds eˣ to the sum. (It matters in
pre-norm models with scaled embeddings, where x grows with √d_model.)
"""

import math

import pytest
import torch
from torch.nn import functional as F

from ._cases import law

WIDE = {"d_model": 64, "vocab_size": 1000, "max_positions": 64}


@law()
@torch.no_grad()
def test_the_loss_starts_at_the_predicted_value(case):
    sizes = {key: value for key, value in WIDE.items() if key in case.fields}
    if dict(case.changes).get("target_vocab_size"):
        sizes["target_vocab_size"] = 1200
    model = case.model(torch.float32, noise=0.0, **sizes)
    if not hasattr(getattr(model, "head", None), "weight"):
        return  # no logits of a vocabulary
    example = case.example(32, 16, **sizes)
    logits = case.run(model, example)
    vocabulary = logits.shape[-1]
    labels = torch.randint(vocabulary, logits.shape[:-1])
    loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten()).item()
    states = model.features(**example)
    states = getattr(model.head, "transform", lambda x: x)(states)
    squared = states.square().sum(-1).mean().item()
    sigma2 = squared * model.head.weight.var().item()
    own = logits.gather(-1, example[case.causal_input][..., None])  # [B, T, 1]
    others = (vocabulary - 1) * math.exp(sigma2 / 2)
    assert loss == pytest.approx((others + own.exp()).log().mean().item(), abs=0.2)
    assert logits.var().item() == pytest.approx(sigma2, abs=0.2)
    assert sigma2 < 1.3, "logits start sure of something"
    if own.mean() < 1.5:
        assert loss == pytest.approx(math.log(vocabulary) + sigma2 / 2, abs=0.2)
