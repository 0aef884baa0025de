import json

import pytest
import torch

from regard import registry
from regard.cost import cost, on_meta, parameters_by_part, part_of
from regard.errors import RegardError
from regard.models import Transformer, TransformerConfig


def config(preset="tiny", vocab_size=100, **overrides):
    return TransformerConfig.preset(preset, vocab_size=vocab_size, overrides=overrides)


class TestParts:
    @pytest.mark.parametrize(
        ("module", "part"),
        [
            ("encoder.layers.3.self_attention.sublayer.qkv", "encoder self-attention"),
            ("decoder.layers.0.cross_attention.sublayer", "decoder cross-attention"),
            ("decoder.layers.0.cross_attention.norm", "decoder norms"),
            ("decoder.layers.0.feed_forward.sublayer.expand", "decoder feed-forward"),
            ("encoder.positions", "encoder positions"),
            ("decoder.norm", "decoder norms"),
            ("source_embedding", "source embedding"),
            ("head", "head"),
            ("body.encoder.layers.1.feed_forward", "encoder feed-forward"),
        ],
    )
    def test_names(self, module, part):
        assert part_of(module) == part

    def test_base_by_hand(self):
        """Section 3 of the paper: what each part of the base model holds."""
        d, d_ff, layers, vocabulary = 512, 2048, 6, 37_000
        found = {part.name: part for part in cost("transformer", config("base", 37_000)).parts}
        attention = layers * (4 * d * d + 4 * d)
        feed_forward = layers * (2 * d * d_ff + d_ff + d)
        expected = {
            "source embedding = target embedding = head": vocabulary * d,
            "encoder self-attention": attention,
            "encoder norms": layers * 2 * 2 * d,
            "encoder feed-forward": feed_forward,
            "decoder self-attention": attention,
            "decoder norms": layers * 3 * 2 * d,
            "decoder cross-attention": attention,
            "decoder feed-forward": feed_forward,
            "head": 0,
        }
        assert {name: part.parameters for name, part in found.items()} == expected

    def test_base_totals(self):
        found = cost("transformer", config("base", 37_000), lengths=(1,))
        assert found.parameters == 63_082_496
        d, d_ff, layers = 512, 2048, 12
        textbook = layers * (4 * d * d + 2 * d * d_ff) + 37_000 * d
        assert found.estimate == textbook + 6 * 4 * d * d  # six layers have a cross-attention
        assert found.estimate == pytest.approx(found.parameters, rel=0.01)

    @pytest.mark.parametrize(
        ("tie", "names"),
        [
            ("all", ["source embedding = target embedding = head"]),
            ("target", ["source embedding", "target embedding = head"]),
            ("none", ["source embedding", "target embedding", "head"]),
        ],
    )
    def test_tied_matrices_are_one_part(self, tie, names):
        found = cost("transformer", config(tie=tie), lengths=(1,))
        held = [part for part in found.parts if part.parameters == 100 * 128]
        assert [part.name for part in held] == names
        assert all(part.estimate == part.parameters for part in held)

    def test_final_norms_and_learned_positions_have_their_parts(self):
        found = parameters_by_part(Transformer(config(positions="learned", max_positions=10)))
        assert found["encoder positions"] == 10 * 128
        before = parameters_by_part(Transformer(config()))["encoder norms"]
        placed = Transformer(config(**{"layer.norm_placement": "pre"}))
        assert parameters_by_part(placed)["encoder norms"] == before + 2 * 128


class TestLengths:
    def test_attention_grows_and_the_rest_does_not(self):
        short, long = cost("transformer", config(), lengths=(64, 640)).lengths
        assert long.attention == 10 * short.attention
        assert long.linear == short.linear
        assert long.training == 3 * long.forward == 3 * (long.linear + long.attention)

    def test_lengths_beyond_the_model(self):
        found = cost("transformer", config(max_positions=16), lengths=(8, 64))
        assert found.max_positions == 16
        assert found.lengths[1].length == 64

    def test_checkpointing_keeps_less(self):
        (row,) = cost("transformer", config("base"), lengths=(64,)).lengths
        assert row.checkpointed < row.activations / 4

    def test_activations_in_half_precision_are_about_half(self):
        (full,) = cost("transformer", config(), lengths=(64,)).lengths
        (half,) = cost("transformer", config(), lengths=(64,), precision="bfloat16").lengths
        assert 0.45 < half.activations / full.activations < 0.75  # masks are bytes in both


class TestMemory:
    def test_training(self):
        found = cost("transformer", config(), lengths=(32,))
        full, half = found.training
        count = found.parameters
        assert (full.weights, full.gradients, full.masters, full.moments) == (
            4 * count,
            4 * count,
            0,
            8 * count,
        )
        assert (half.weights, half.gradients, half.masters, half.moments) == (
            2 * count,
            2 * count,
            8 * count,
            8 * count,
        )
        assert found.step(1000, 32) == 16 * count + 1000 * found.lengths[0].activations

    def test_moments_are_the_optimizers(self):
        found = cost("transformer", config(), lengths=(32,), optimizer="adafactor")
        assert 0 < found.training[0].moments < found.training[0].weights / 10
        with pytest.raises(RegardError, match="adamm"):
            cost("transformer", config(), lengths=(32,), optimizer="adamm")

    @pytest.mark.parametrize("heads", [4, 2])
    def test_decoding_is_what_the_cache_holds(self, heads):
        model = Transformer(config(**{"layer.attention.num_kv_heads": heads, "num_layers": 3}))
        found = cost("transformer", model.config, lengths=(1,)).decoding[0]
        state = model.start(torch.zeros(2, 7, dtype=torch.long))
        model.step(torch.zeros(2, 5, dtype=torch.long), state)
        memory = [part for layer in state.cache.layers for part in layer.memory]
        assert sum(part.nbytes for part in memory) == 2 * 7 * found.per_source_token
        kept = []
        for layer in state.cache.layers:
            before = torch.zeros(2, heads, 0, 32)
            kept += layer.append(before, before)
        assert sum(part.nbytes for part in kept) == 2 * 5 * found.per_token

    def test_nothing_is_allocated(self):
        model = on_meta(registry.family("transformer"), config("big", 10**7))
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


class TestErrors:
    @pytest.mark.parametrize("lengths", [(), (0,), (8, -1)])
    def test_lengths(self, lengths):
        with pytest.raises(RegardError, match="from 1 on"):
            cost("transformer", config(), lengths=lengths)

    def test_precision(self):
        with pytest.raises(RegardError, match="'int3'"):
            cost("transformer", config(), precision="int3")

    def test_family(self):
        with pytest.raises(RegardError, match="did you mean 'transformer'"):
            cost("transfromer", config())


def test_plain_values_for_json():
    found = cost("transformer", config(), lengths=(8,))
    values = json.loads(json.dumps(found.to_dict()))
    assert values["parameters"] == found.parameters
    assert values["lengths"][0]["training"] == found.lengths[0].training
    assert values["training"][1]["total"] == found.training[1].total
