import pytest
import torch

from regard.look import look, trace
from regard.look.rollout import rollout
from regard.look.trace import LayerAttention, Trace
from regard.models import Transformer, TransformerConfig

TOKENS = {"encoder": ["a", "b", "c"], "decoder": ["<s>", "v"]}


def layer(stack, index, kind, weights):
    weights = torch.tensor(weights)
    visible = torch.ones(weights.shape[1:], dtype=torch.bool)
    return LayerAttention(f"{stack}.layers.{index}", stack, index, kind, weights, visible)


def test_an_encoder_by_hand():
    """Two layers: heads averaged, then (W + I)/2 twice."""
    first = [[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]  # mean [[.5, .5], [1, 0]]
    second = [[[0.0, 1.0], [0.0, 1.0]]]
    found = Trace(
        (layer("encoder", 0, "self", first), layer("encoder", 1, "self", second)),
        {"encoder": ("a", "b")},
    )
    rolled = rollout(found)
    lower = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    torch.testing.assert_close(rolled.layers[0].weights[0], lower)
    mixed = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    torch.testing.assert_close(rolled.layers[1].weights[0], mixed @ lower)
    assert rolled.rolled
    assert not found.rolled


def test_cross_attention_sees_the_source_through_the_encoder():
    encoder = layer("encoder", 0, "self", [[[0.0, 1.0], [0.0, 1.0]]])  # (W + I)/2
    itself = layer("decoder", 0, "self", [[[1.0]]])
    cross = layer("decoder", 0, "cross", [[[1.0, 0.0]]])
    rolled = rollout(Trace((encoder, itself, cross), {"encoder": ("a", "b"), "decoder": ("v",)}))
    torch.testing.assert_close(rolled.layers[2].weights[0], torch.tensor([[0.5, 0.5]]))


@pytest.fixture
def model():
    overrides = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24}
    return Transformer(TransformerConfig.preset("tiny", vocab_size=20, overrides=overrides))


@pytest.fixture
def inputs():
    return {"source_ids": torch.randint(20, (1, 3)), "target_ids": torch.randint(20, (1, 2))}


def test_of_a_model(model, inputs):
    """Rows sum to 1, the future stays hidden, and what is drawn is what is said."""
    rolled = rollout(trace(model, inputs, TOKENS))
    for one in rolled.layers:
        torch.testing.assert_close(one.weights.sum(-1), torch.ones(one.weights.shape[:2]))
    assert float(rolled["decoder.layers.1.self_attention"].weights[0, 0, 1]) == 0.0


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_picture(model, inputs, tmp_path, suffix):
    picture = look(model, inputs=inputs, tokens=TOKENS, rollout=True)
    assert picture.save(tmp_path / f"r.{suffix}").stat().st_size > 5000
    shown = picture.to_dict()
    assert shown["rollout"]
    assert [len(one["heads"]) for view in shown["views"] for one in view["layers"]] == [1] * 6
