"""Embeddings and the head: scaling, tying, bias, initialization."""

import math

import pytest
import torch

from regard.nn import HeadSpec, LanguageModelHead, TokenEmbedding

IDS = torch.tensor([[0, 3, 3], [1, 4, 0]])


@pytest.mark.parametrize(("scale", "factor"), [(True, 4.0), (False, 1.0)])
def test_rows_of_the_matrix_scaled_by_the_root_of_the_width(scale, factor):
    embedding = TokenEmbedding(5, 16, scale=scale)
    made = embedding(IDS)
    assert made.shape == (2, 3, 16)
    torch.testing.assert_close(made, embedding.weight[IDS] * factor, rtol=0, atol=0)


def test_initial_spread():
    embedding = TokenEmbedding(4000, 64)
    assert embedding.weight.mean().item() == pytest.approx(0.0, abs=2e-3)
    assert embedding.weight.std().item() == pytest.approx(1 / 8, rel=0.01)
    assert embedding(torch.arange(4000)[None]).var().item() == pytest.approx(1.0, rel=0.02)
    head = LanguageModelHead(64, 4000, spec=HeadSpec(bias=True))
    assert head.weight.std().item() == pytest.approx(1 / 8, rel=0.01)
    assert not head.bias.any()


def test_head_is_a_linear_map():
    head = LanguageModelHead(6, 5, spec=HeadSpec(bias=True)).double()
    torch.nn.init.normal_(head.bias)
    for shape in ((2, 3), (4,)):
        states = torch.randn(*shape, 6, dtype=torch.float64)
        made = head(states)
        assert made.shape == (*shape, 5)
        torch.testing.assert_close(made, states @ head.weight.T + head.bias, rtol=0, atol=1e-12)


def test_head_without_bias():
    head = LanguageModelHead(6, 5, spec=HeadSpec())
    assert head.bias is None
    assert [name for name, _ in head.named_parameters()] == ["weight"]


def test_a_tied_head_holds_the_embedding_s_own_matrix():
    embedding = TokenEmbedding(5, 6)
    head = LanguageModelHead(6, 5, spec=HeadSpec(), tied_to=embedding.weight)
    assert head.weight is embedding.weight
    (head(embedding(IDS)).square().sum()).backward()
    assert embedding.weight.grad is head.weight.grad


def test_a_tied_head_knows_its_token():
    """Scaled by √d_model a token's own logit is |row|² √d_model ≈ √d_model."""
    embedding = TokenEmbedding(300, 256)
    head = LanguageModelHead(256, 300, spec=HeadSpec(), tied_to=embedding.weight)
    logits = head(embedding(torch.arange(300)[None]))[0]
    assert logits.diagonal().mean().item() == pytest.approx(math.sqrt(256), rel=0.05)
    assert (logits.argmax(-1) == torch.arange(300)).all()
