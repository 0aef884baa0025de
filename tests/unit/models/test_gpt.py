"""GPT: published sizes, initial values, what its presets are."""

import math

import pytest
import torch

from regard.errors import RecipeError
from regard.models import GPT, GPTConfig
from regard.models.gpt import FAMILY
from regard.nn import RMSNorm, Rotary
from regard.spec import build, resolve

SIZES = {
    # preset: vocabulary, parameters (a tied head counted once)
    "gpt1": (40_478, 116_534_784),
    "gpt2": (50_257, 124_439_808),
    "gpt2-medium": (50_257, 354_823_168),
    "gpt2-large": (50_257, 774_030_080),
    "gpt2-xl": (50_257, 1_557_611_200),
    "gpt3": (50_257, 174_604_259_328),
    "nano": (65, 10_745_088),
    "nano-cpu": (65, 804_096),
    "stories260k": (512, 260_032),
    "stories15m": (32_000, 15_191_712),
    "llama2-7b": (32_000, 6_738_415_616),
    "llama3-8b": (128_256, 8_030_261_248),
}


@pytest.mark.parametrize("name", GPTConfig.presets)
def test_presets_have_their_published_sizes(name):
    vocabulary, count = SIZES[name]
    with torch.device("meta"):
        model = GPT(GPTConfig.preset(name, vocab_size=vocabulary))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_matrices_start_small_and_ends_of_sublayers_smaller():
    torch.manual_seed(0)
    overrides = {"num_layers": 8, "d_model": 256, "layer.attention.num_heads": 4}
    model = GPT(GPTConfig.preset("gpt2", vocab_size=500, overrides=overrides))
    layer = model.decoder.layers[3]
    for part in (layer.self_attention.sublayer.output, layer.feed_forward.sublayer.contract):
        assert part.weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * 8), rel=0.05)
        assert not part.bias.any()
    for weight in (
        layer.self_attention.sublayer.qkv.weight,
        layer.feed_forward.sublayer.expand.weight,
        model.embedding.weight,
        model.decoder.positions.weight,
    ):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.head.weight is model.embedding.weight
    assert bool((layer.self_attention.norm.weight == 1).all())


def test_styles():
    gpt1 = GPT(GPTConfig.preset("gpt1", vocab_size=9, overrides={"num_layers": 1}))
    assert gpt1.decoder.norm is None  # post-norm
    nano = GPT(GPTConfig.preset("nano-cpu", vocab_size=9))
    assert not [name for name, _ in nano.named_parameters() if name.endswith("bias")]
    llama = GPT(GPTConfig.preset("stories260k", vocab_size=9))
    assert isinstance(llama.decoder.norm, RMSNorm)
    assert isinstance(llama.decoder.positions, Rotary)
    assert llama.decoder.layers[0].self_attention.sublayer.spec.kv_heads == 4


def test_the_usual_config_is_gpt_2s():
    usual = build(GPTConfig, resolve(FAMILY.defaults, {"vocab_size": 50}))
    assert GPTConfig(vocab_size=50) == usual
    assert (usual.layer.norm_placement, usual.embedding.scale) == ("pre", False)
    with pytest.raises(RecipeError, match="did you mean 'gpt2'"):
        GPTConfig.preset("gpt-2", vocab_size=5)
    changed = GPTConfig.preset("gpt2", vocab_size=5, overrides={"layer.dropout": 0.3})
    assert (changed.layer.dropout, changed.layer.feed_forward.activation) == (0.3, "gelu_tanh")
