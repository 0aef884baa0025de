"""T5: published sizes, initial values, what its settings mean."""

import pytest
import torch

from regard.models import T5, T5Config
from regard.models.t5 import FAMILY
from regard.nn import Buckets, RMSNorm
from regard.spec import build, resolve

SIZES = {
    # of 32,128 entries, a tied head counted once
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "v1_1-small": 76_961_152,
    "v1_1-base": 247_577_856,
    "v1_1-large": 783_150_080,
}


@pytest.mark.parametrize("name", SIZES)
def test_presets_have_their_published_sizes(name):
    with torch.device("meta"):
        model = T5(T5Config.preset(name, vocab_size=32_128))
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


def test_every_product_starts_at_variance_one():
    torch.manual_seed(0)
    model = T5(T5Config.preset("v1_1-small", vocab_size=64, overrides={"num_layers": 1})).eval()
    attention = model.encoder.layers[0].self_attention.sublayer
    states = torch.randn(4, 50, 512)
    queries, keys, values = attention.qkv(states)
    scores = queries.view(4, 50, 6, 64).transpose(1, 2) @ keys.view(4, 50, 6, 64).permute(
        0, 2, 3, 1
    )
    assert attention.scale == 1.0
    for made in (keys, values, scores, model.head(states)):
        assert made.var().item() == pytest.approx(1.0, rel=0.15)
    assert model.embedding.weight.std().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("tie", ["all", "none"])
@pytest.mark.parametrize("scaled", [True, False])
def test_head_and_scaling_are_settings_of_their_own(tie, scaled):
    torch.manual_seed(0)
    overrides = {"d_model": 32, "num_layers": 1, "tie": tie, "scale_states": scaled}
    model = T5(T5Config.preset("tiny", vocab_size=40, overrides=overrides)).eval()
    assert (model.head.weight is model.embedding.weight) == (tie == "all")
    source, target = torch.randint(40, (2, 5)), torch.randint(40, (2, 4))
    memory = model.encode(source)
    states = model.decoder(model.embedding(target), mask=memory.mask, memory=memory)
    expected = states * 32**-0.5 if scaled else states
    torch.testing.assert_close(model.features(source, target), expected)
    torch.testing.assert_close(model(source, target), expected @ model.head.weight.T)


def test_only_self_attention_has_positions_and_one_table_a_stack():
    model = T5(T5Config.preset("tiny", vocab_size=40, overrides={"num_layers": 3}))
    tables = [module for module in model.modules() if isinstance(module, Buckets)]
    assert [table.options.bidirectional for table in tables] == [True, False]
    assert not any("bias" in name for name, _ in model.named_parameters())
    assert isinstance(model.decoder.norm, RMSNorm)


def test_another_kind_of_feed_forward_keeps_its_width():
    settings = {"layer": {"feed_forward": {"kind": "gated"}}, "vocab_size": 40}
    found = resolve(FAMILY.defaults, FAMILY.presets["tiny"], settings, stacks=FAMILY.stacks)
    hidden = build(T5Config, found).encoder.layer.feed_forward
    assert (hidden.kind, hidden.d_ff, hidden.bias) == ("gated", 256, False)
