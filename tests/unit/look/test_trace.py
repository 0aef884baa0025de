import math

import pytest
import torch
from torch.nn import functional as F

from regard.errors import InputError
from regard.look.trace import LayerAttention, trace
from regard.models import Transformer, TransformerConfig
from regard.nn import kernels

SOURCE, TARGET = ["a", "b", "c", "d", "e"], ["<s>", "v", "w", "x"]
TOKENS = {"encoder": SOURCE, "decoder": TARGET}


@pytest.fixture
def model():
    overrides = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24}
    return Transformer(TransformerConfig.preset("tiny", vocab_size=20, overrides=overrides))


@pytest.fixture
def inputs():
    return {
        "source_ids": torch.randint(20, (1, len(SOURCE))),
        "target_ids": torch.randint(20, (1, len(TARGET))),
    }


@pytest.fixture
def labels():
    return torch.randint(20, (1, len(TARGET)))


def layer(weights, visible=None, kind="self"):
    weights = torch.tensor(weights)
    if visible is None:
        visible = torch.ones(weights.shape[1:], dtype=torch.bool)
    return LayerAttention("encoder.layers.0.self_attention", "encoder", 0, kind, weights, visible)


class TestTrace:
    def test_names_and_shapes(self, model, inputs):
        found = trace(model, inputs, TOKENS)
        shapes = {one.name: tuple(one.weights.shape) for one in found.layers}
        assert shapes == {
            f"{name}_attention": shape
            for number in (0, 1)
            for name, shape in {
                f"encoder.layers.{number}.self": (4, 5, 5),
                f"decoder.layers.{number}.self": (4, 4, 4),
                f"decoder.layers.{number}.cross": (4, 4, 5),
            }.items()
        }
        assert list(found.views()) == [
            ("encoder", "self"),
            ("decoder", "self"),
            ("decoder", "cross"),
        ]
        cross = found["decoder.layers.1.cross_attention"]
        assert (found.queries(cross), found.keys(cross)) == (tuple(TARGET), tuple(SOURCE))

    def test_weights_are_the_formulas(self, model, inputs):
        """softmax(QKᵀ/√d_key) written out, from the states that enter the first layer."""
        model.eval()
        found = trace(model, inputs, TOKENS)["decoder.layers.0.self_attention"]
        attention = model.decoder.layers[0].self_attention.sublayer
        states = model.decoder.positions.add(
            model.target_embedding(inputs["target_ids"]), torch.arange(4)[None], 0
        )
        query, key, _ = attention.qkv(states)
        for head in range(4):
            own = slice(4 * head, 4 * head + 4)
            scores = query[0, :, own] @ key[0, :, own].T / math.sqrt(4)
            scores[torch.ones(4, 4).triu(1).bool()] = -torch.inf
            torch.testing.assert_close(found.weights[head], scores.softmax(-1))

    def test_shows_the_causal_mask(self, model, inputs):
        found = trace(model, inputs, TOKENS)
        one = found["decoder.layers.0.self_attention"]
        assert torch.equal(one.visible, torch.ones(4, 4).tril().bool())
        assert one.weights.triu(1).abs().max() == 0
        assert found["decoder.layers.0.cross_attention"].visible.all()

    def test_shows_padding(self, model, inputs):
        real = torch.tensor([[True, True, True, False, False]])
        found = trace(model, {**inputs, "source_mask": real}, TOKENS)
        for name in ("encoder.layers.1.self_attention", "decoder.layers.1.cross_attention"):
            assert torch.equal(found[name].visible, real.expand_as(found[name].visible))
            assert found[name].weights[:, :, 3:].abs().max() == 0

    def test_leaves_the_model_as_it_was(self, model, inputs, labels):
        model.train()
        model.encoder.eval()
        before = {name: module.training for name, module in model.named_modules()}
        state = {name: value.clone() for name, value in model.state_dict().items()}
        trace(model, inputs, TOKENS, labels=labels, importance=True)
        assert {name: module.training for name, module in model.named_modules()} == before
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not kernels.observed()
        assert not any(module._forward_pre_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_leaves_no_hook_behind_after_an_error(self, model):
        with pytest.raises(TypeError):
            trace(model, {"nonsense": 1}, TOKENS)
        assert not kernels.observed()
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_finds_stacks_inside_another_module(self, model, inputs):
        class Wrapped(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.body = model

            def forward(self, **inputs):
                return self.body(**inputs)

        found = trace(Wrapped(), inputs, TOKENS)
        assert found["body.encoder.layers.0.self_attention"].stack == "encoder"

    def test_a_layer_that_runs_twice_is_two(self, model, inputs):
        model.encoder.layers[1] = model.encoder.layers[0]
        found = trace(model, inputs, TOKENS).views()["encoder", "self"]
        assert [one.layer for one in found] == [0, 1]
        assert not torch.equal(found[0].weights, found[1].weights)


class TestImportance:
    def test_loss_is_the_cross_entropy(self, model, inputs, labels):
        found = trace(model, inputs, TOKENS, labels=labels)
        expected = F.cross_entropy(model.eval()(**inputs)[0], labels[0]).item()
        assert found.loss == pytest.approx(expected, abs=1e-5)
        assert all(one.importance is None for one in found.layers)

    def test_ignored_labels_do_not_count(self, model, inputs, labels):
        labels[0, 1:] = -100
        found = trace(model, inputs, TOKENS, labels=labels)
        expected = F.cross_entropy(model.eval()(**inputs)[0, :1], labels[0, :1]).item()
        assert found.loss == pytest.approx(expected, abs=1e-5)

    def test_is_the_rise_without_the_head(self, model, inputs, labels):
        """The same by cutting the head's columns out of the output projection."""
        found = trace(model, inputs, TOKENS, labels=labels, importance=True)
        model.eval()
        for name, module in (
            ("encoder.layers.0.self_attention", model.encoder.layers[0].self_attention),
            ("decoder.layers.1.cross_attention", model.decoder.layers[1].cross_attention),
        ):
            weight = module.sublayer.output.weight
            for head in range(4):
                whole = weight.detach().clone()
                with torch.no_grad():
                    weight[:, 4 * head : 4 * head + 4] = 0.0
                    without = F.cross_entropy(model(**inputs)[0], labels[0]).item()
                    weight.copy_(whole)
                assert found[name].importance[head] == pytest.approx(without - found.loss, abs=1e-5)

    def test_needs_a_target(self, model, inputs):
        with pytest.raises(InputError, match="with a target"):
            trace(model, inputs, TOKENS, importance=True)


class TestEntropy:
    def test_by_hand(self):
        one = layer([[[1.0, 0.0], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]])
        mixed = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
        expected = [math.log(2) / 2, (mixed + math.log(2)) / 2]
        assert one.entropy.tolist() == pytest.approx(expected)
        assert one.relative_entropy.tolist() == pytest.approx([e / math.log(2) for e in expected])

    def test_relative_to_what_each_query_may_see(self):
        weights = [[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]]
        one = layer(weights, torch.ones(3, 3).tril().bool())
        assert one.relative_entropy.tolist() == pytest.approx([1.0])

    def test_without_any_choice_is_nan(self):
        assert layer([[[1.0]]]).relative_entropy.isnan().all()


class TestFocus:
    @pytest.mark.parametrize(
        ("shift", "name"), [(-1, "previous"), (0, "same"), (1, "next")], ids=lambda x: str(x)
    )
    def test_neighbors(self, shift, name):
        at = (torch.arange(5) + shift).clamp(0, 4)
        place, share = layer(F.one_hot(at, 5).float()[None].tolist()).focus(0)
        assert (place, share) == (name, 1.0)

    @pytest.mark.parametrize(("column", "name"), [(0, "first"), (4, "last")])
    def test_ends(self, column, name):
        weights = torch.zeros(1, 5, 5)
        weights[:, :, column] = 1.0
        for kind in ("self", "cross"):
            assert layer(weights.tolist(), kind=kind).focus(0) == (name, 1.0)

    def test_hidden_keys_do_not_count(self):
        weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        place, share = layer(weights.tolist(), torch.ones(2, 2).tril().bool()).focus(0)
        assert (place, share) == ("same", 1.0)


class TestErrors:
    def test_more_than_one_example(self, model, inputs):
        with pytest.raises(InputError, match="one example, source_ids holds 2"):
            trace(model, {**inputs, "source_ids": torch.zeros(2, 5, dtype=torch.long)}, TOKENS)

    @pytest.mark.parametrize(
        "tokens",
        [{"encoder": SOURCE}, {"decoder": TARGET}, {"nonsense": SOURCE, "decoder": TARGET}],
    )
    def test_names_for_other_stacks(self, model, inputs, tokens):
        with pytest.raises(InputError, match="no names"):
            trace(model, inputs, tokens)

    def test_too_few_names(self, model, inputs):
        with pytest.raises(InputError, match="4 names for 5 tokens"):
            trace(model, inputs, {"encoder": SOURCE[:4], "decoder": TARGET})

    def test_unknown_layer(self, model, inputs):
        with pytest.raises(KeyError, match="no attention called 'x'"):
            trace(model, inputs, TOKENS)["x"]
