"""BERT: published sizes, and what its parts are."""

import pytest
import torch

from regard import registry
from regard.models import BERT, BERTConfig
from regard.models.bert import FAMILY
from regard.spec import build, resolve

SIZES = {
    # preset: vocabulary, parameters of the body with its pooler (DistilBERT has none)
    "tiny": (30_522, 4_385_920),
    "mini": (30_522, 11_170_560),
    "small": (30_522, 28_763_648),
    "medium": (30_522, 41_373_184),
    "base": (30_522, 109_482_240),
    "large": (30_522, 335_141_888),
    "roberta-base": (50_265, 124_055_040 + 590_592),
    "roberta-large": (50_265, 355_359_744),
    "distilbert": (30_522, 66_362_880),
}


@pytest.mark.parametrize("name", BERTConfig.presets)
def test_presets_have_their_published_sizes(name):
    vocabulary, count = SIZES[name]
    with torch.device("meta"):
        head = "none" if name == "distilbert" else "pooled"
        model = BERT(BERTConfig.preset(name, vocab_size=vocabulary, overrides={"head": head}))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_usual_config_is_the_defaults():
    assert BERTConfig(vocab_size=50) == build(
        BERTConfig, resolve(FAMILY.defaults, {"vocab_size": 50})
    )


@pytest.mark.parametrize("kind", [one for one in registry.names("heads") if one != "boxes"])
@torch.no_grad()
def test_heads_answer_in_their_shapes(kind):
    config = BERTConfig.preset("tiny", vocab_size=30, overrides={"head": kind, "d_model": 16})
    model = BERT(config).eval()
    shapes = {
        "none": (2, 5, 16),
        "pooled": (2, 5, 16),
        "masked_lm": (2, 5, 30),
        "classification": (2, 2),
        "tokens": (2, 5, 2),
        "span": (2, 5, 2),
    }
    made = model(torch.randint(30, (2, 5)))
    assert (made[0] if kind == "pooled" else made).shape == shapes[kind]


@torch.no_grad()
def test_segments_and_offsets():
    model = BERT(BERTConfig.preset("tiny", vocab_size=30, overrides={"d_model": 16})).eval()
    ids = torch.randint(30, (2, 5))
    assert torch.equal(model(ids), model(ids, segments=torch.zeros_like(ids)))
    assert not torch.allclose(model(ids), model(ids, segments=torch.ones_like(ids)))
    sizes = {"num_layers": 1, "max_positions": 6}
    offset = BERT(BERTConfig.preset("roberta-base", vocab_size=30, overrides=sizes))
    assert offset.encoder.positions.weight.shape[0] == 8
