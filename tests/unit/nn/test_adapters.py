"""Adapters: where they go, what they are at the start, and what is refused."""

import pytest
import torch

from regard.errors import RecipeError
from regard.models import GPT, Transformer
from regard.models.gpt import GPTConfig
from regard.models.transformer import TransformerConfig
from regard.nn import Attention, AttentionSpec, Linear
from regard.nn.adapters import LoRA, LoRAOptions, add_adapters, merge_adapters

SMALL = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, "max_positions": 32}


def gpt(preset="nano-cpu"):
    heads = {"layer.attention.num_heads": 4, "layer.attention.num_kv_heads": 2}
    torch.manual_seed(0)
    return GPT(GPTConfig.preset(preset, vocab_size=11, overrides={**SMALL, **heads})).eval()


def transformer():
    return Transformer(TransformerConfig.preset("tiny", vocab_size=11, overrides=SMALL))


def own(model):
    return {n: tuple(p.shape) for n, p in model.named_parameters() if ".adapters." in n}


def test_the_papers_formula():
    torch.manual_seed(0)
    adapter = LoRA(6, 4, LoRAOptions(rank=2, alpha=3.0)).double()
    assert adapter.up.abs().max() == 0
    assert 0.2 < adapter.down.std() * 6**0.5 < 2
    with torch.no_grad():
        adapter.up.normal_()
    states = torch.randn(3, 6, dtype=torch.float64)
    expected = 1.5 * states @ adapter.down.T @ adapter.up.T
    torch.testing.assert_close(adapter(states), expected)
    torch.testing.assert_close(states @ adapter.weight().T, expected)


def test_by_default_queries_and_values():
    model = gpt()
    add_adapters(model, LoRA, LoRAOptions(rank=3))
    at = [f"decoder.layers.{k}.self_attention.sublayer.qkv.adapters" for k in (0, 1)]
    assert own(model) == {
        f"{path}.{name}": shape
        for path in at
        for name, shape in {
            "queries.down": (3, 16),
            "queries.up": (16, 3),
            "values.down": (3, 16),
            "values.up": (8, 3),
        }.items()
    }


def test_cross_attention_has_queries_and_values_too():
    model = transformer()
    add_adapters(model, LoRA, LoRAOptions())
    cross = [name for name in own(model) if ".cross_attention." in name]
    assert {name.split("sublayer.")[1] for name in cross} == {
        f"{where}.{matrix}"
        for where in ("query.adapters.queries", "key_value.adapters.values")
        for matrix in ("down", "up")
    }


def test_gated_networks_have_two_maps_in_one():
    model = gpt("stories260k")
    add_adapters(model, LoRA, LoRAOptions(targets=["gate"]))
    assert {name.split(".adapters.")[1] for name in own(model)} == {"gate.down", "gate.up"}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["querys"], "did you mean 'queries'"),
        (["linear"], "known: queries, keys, values, output, expand, contract"),
        ([], "no map gets an adapter"),
    ],
)
def test_unknown_targets(targets, words):
    model = gpt()
    with pytest.raises(RecipeError, match=r"model\.adapter\.targets") as caught:
        add_adapters(model, LoRA, LoRAOptions(targets=targets))
    assert words in str(caught.value)
    assert not own(model)


def test_dropout_is_of_the_adapters_alone():
    model = gpt()
    plain = model(torch.arange(6)[None])
    add_adapters(model, LoRA, LoRAOptions(dropout=0.5))
    with torch.no_grad():
        for name in own(model):
            model.get_parameter(name).normal_()
    ids = torch.arange(6)[None]
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    merge_adapters(model)
    assert not own(model)
    assert not torch.equal(model(ids), plain)


def test_a_part_alone():
    torch.manual_seed(0)
    part = Attention(AttentionSpec(num_heads=2), 8)
    states = torch.randn(1, 5, 8)
    before = part(states)
    add_adapters(part, LoRA, LoRAOptions(targets=["output"]))
    assert torch.equal(part(states), before)
    merge_adapters(part)
    assert type(part.output) is Linear
