import pytest
import torch

from regard.errors import InputError
from regard.look.neighbors import embeddings, neighbors
from regard.models import Transformer, TransformerConfig


def test_nearest_by_cosine_themselves_apart():
    weight = torch.tensor([[1.0, 0.0], [5.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    found = neighbors(weight, [0])
    assert [number for number, _ in found] == [1, 2, 3]
    assert found[1][1] == pytest.approx(0.0)
    assert found[2][1] == pytest.approx(-1.0)


def test_several_tokens_are_one_direction():
    weight = torch.eye(3)[[0, 1, 2, 0]] + torch.eye(3)[[0, 1, 2, 1]]
    weight[3] = torch.tensor([1.0, 1.0, 0.0])
    assert neighbors(weight, [0, 1, 1], count=1) == [(3, pytest.approx(1.0))]


def test_needs_a_word():
    with pytest.raises(InputError, match="no word"):
        neighbors(torch.eye(2), [])


@pytest.mark.parametrize(("tie", "count"), [("all", 1), ("target", 2), ("none", 2)])
def test_embeddings_by_name(tie, count):
    overrides = {"d_model": 16, "num_layers": 1, "tie": tie}
    model = Transformer(TransformerConfig.preset("tiny", vocab_size=9, overrides=overrides))
    found = embeddings(model)
    assert list(found) == ["source_embedding", "target_embedding"][:count]
    assert found["source_embedding"] is model.source_embedding.weight
