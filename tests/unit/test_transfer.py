"""What a run takes over from another, and what of it trains."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from regard import workflow
from regard.check import check
from regard.errors import CheckpointError, RecipeError
from regard.load import load
from regard.models import BERT, Transformer
from regard.models.bert import BERTConfig
from regard.models.transformer import TransformerConfig
from regard.recipe import Recipe
from regard.run import Run
from regard.transfer import frozen_by, load_adapter, start_weights

ADAPTER = {"model.start_from": "run", "model.adapter": {"kind": "lora", "rank": 2}}


@pytest.fixture
def run(folder):
    settings = {"training.checkpoint.every_steps": 1, "evaluation.every_steps": 1}
    return workflow.train("tiny.toml", settings, run="run").path


def weights(run, step, name="model"):
    return load_file(run / "checkpoints" / f"step-{step:06d}" / f"{name}.safetensors")


def held(model):
    return {name: value.detach() for name, value in model.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class TestStart:
    def model(self, run, **overrides):
        config = TransformerConfig.preset(
            "tiny",
            vocab_size=17,
            overrides={
                "d_model": 8,
                "num_layers": 1,
                "layer.attention.num_heads": 2,
                "layer.feed_forward.d_ff": 16,
                **overrides,
            },
        )
        return Transformer(config)

    def test_every_tensor(self, run):
        model = self.model(run)
        said, taken = start_weights(model, run)
        assert same(held(model), held(load(run).model))
        assert taken == weights(run, 2).keys()
        assert said[0].startswith(f"weights: {len(taken)} tensors from {run} (")
        assert "new, drawn at random: none" in said
        assert "not used of that run: none" in said

    def test_what_is_new_and_what_is_not_used(self, run):
        model = self.model(run, num_layers=2)
        before = {name: value.clone() for name, value in held(model).items()}
        said, taken = start_weights(model, run)
        new = said[1].removeprefix("new, drawn at random: ").split(", ")
        assert new == sorted(name for name in before if ".layers.1." in name)
        assert not taken & {*new}
        assert all(torch.equal(held(model)[name], before[name]) for name in new)

        deep = workflow.train("tiny.toml", {"model.num_layers": 2}, run="deep").path
        said, _ = start_weights(self.model(run), deep)
        assert said[1] == "new, drawn at random: none"
        assert said[2].removeprefix("not used of that run: ").split(", ") == new

    def test_a_recipe_in_python_that_leaves_the_tokenizer_out(self, run):
        told = Recipe.load("tiny.toml").settings()
        told = {key: told[key] for key in ("task", "data", "training", "evaluation")}
        recipe = Recipe.from_settings({**told, "model": {"start_from": "run"}})
        made = workflow.train(recipe, {"training.max_steps": 1}, run="next")
        here, there = ((path / "tokenizer.json").read_bytes() for path in (made.path, run))
        assert here == there

    @pytest.mark.parametrize("overrides", [{"d_model": 16}, {"layer.feed_forward.d_ff": 24}])
    def test_other_shapes_are_refused_untouched(self, run, overrides):
        model = self.model(run, **overrides)
        before = {name: value.clone() for name, value in held(model).items()}
        with pytest.raises(RecipeError, match=r"start_from: .* there and .* here"):
            start_weights(model, run)
        assert same(held(model), before)


class TestHeads:
    """A BERT's body under other heads."""

    def bert(self, head, **more):
        sizes = {"d_model": 16, "layer.attention.num_heads": 2, "layer.feed_forward.d_ff": 24}
        overrides = {**sizes, "max_positions": 32, "head": head, **more}
        return BERT(BERTConfig.preset("tiny", vocab_size=23, overrides=overrides))

    def old(self, tmp_path, head):
        """A run that holds such a BERT; which task it was of does not matter here."""
        from regard.spec import plain

        torch.manual_seed(5)
        model, run = self.bert(head), Run.create(tmp_path / "old")
        settings = {"task": "language-modeling", "training": {"max_steps": 1}}
        settings["model"] = {"family": "bert", **plain(model.config)}
        run.write_recipe(Recipe.from_settings(settings).dump())
        run.store.save(1, {"model": held(model)}, {})
        run.unlock()
        return run.path, model

    @pytest.mark.parametrize(
        ("there", "here"),
        [
            ("masked_lm", "classification"),
            ("classification", "tokens"),  # shapes fit, meanings do not
            ("span", {"kind": "classification", "num_classes": 2}),
            ("classification", {"kind": "classification", "num_classes": 3}),
            ("none", "span"),
        ],
    )
    def test_another_head_is_new(self, tmp_path, there, here):
        path, old = self.old(tmp_path, there)
        torch.manual_seed(6)
        model = self.bert(here)
        before = {name: value.clone() for name, value in held(model).items()}
        said, taken = start_weights(model, path)
        theirs = held(old)
        new = sorted(name for name in before if name.startswith("head.") or name not in theirs)
        assert any(name.startswith("head.") for name in new)
        assert taken == before.keys() - {*new}
        assert said[1] == f"new, drawn at random: {', '.join(new)}"
        unused = ", ".join(sorted(theirs.keys() - taken)) or "none"
        assert said[2] == f"not used of that run: {unused}"
        for name, value in held(model).items():
            assert torch.equal(value, before[name] if name in new else theirs[name]), name

    def test_the_same_head_goes_on(self, tmp_path):
        path, old = self.old(tmp_path, {"kind": "tokens", "num_classes": 5})
        model = self.bert({"kind": "tokens", "num_classes": 5}, **{"layer.dropout": 0.3})
        said, _ = start_weights(model, path)
        assert said[1] == "new, drawn at random: none"
        assert same(held(model), held(old))

    def test_a_head_that_is_to_be_new(self, tmp_path):
        """As for other labels: nothing of its shapes tells."""
        path, old = self.old(tmp_path, "classification")
        model = self.bert("classification")
        said, taken = start_weights(model, path, new_head=True)
        assert said[1] == "new, drawn at random: head.linear.bias, head.linear.weight"
        assert taken == {name for name in held(old) if not name.startswith("head.")}
        assert not torch.equal(held(model)["head.linear.weight"], held(old)["head.linear.weight"])

    def test_the_body_must_fit(self, tmp_path):
        path, _ = self.old(tmp_path, "masked_lm")
        with pytest.raises(RecipeError, match=r"encoder\.positions\.weight is .* there and"):
            start_weights(self.bert("span", max_positions=64), path)

    def test_in_a_recipe_it_is_one_line(self, tmp_path):
        """All else of the model is the old run's."""
        path, old = self.old(tmp_path, "masked_lm")
        settings = {"task": "language-modeling", "training": {"max_steps": 1}}
        settings["model"] = {"family": "bert", "start_from": str(path), "head": "classification"}
        config = Recipe.from_settings(settings).model_config_for()
        assert config.head.kind == "classification"
        assert config.layer == old.config.layer
        assert config.d_model == 16


class TestFreeze:
    def frozen(self, entries, **more):
        settings = {"task": "translation", "training": {"max_steps": 1}}
        recipe = Recipe.from_settings({**settings, "model": {"freeze": entries, **more}})
        overrides = {"num_layers": 12, "d_model": 8, "layer.attention.num_heads": 2, **more}
        config = TransformerConfig.preset("tiny", vocab_size=9, overrides=overrides)
        with torch.device("meta"):
            model = Transformer(config)
        found = frozen_by(recipe, model)
        assert found <= dict(model.named_parameters()).keys()
        return found

    def test_whole_parts_of_names(self):
        found = self.frozen(["encoder.layers.1"])
        assert found
        assert {name.split(".")[2] for name in found} == {"1"}  # not 10 and 11
        assert self.frozen(["encoder.layers.1.self_attention.norm.weight"]) == {
            "encoder.layers.1.self_attention.norm.weight"
        }
        assert self.frozen([]) == set()

    def test_patterns(self):
        found = self.frozen(["encoder.layers.[0-2]", "*.norm"])
        layers = {tuple(name.split(".")[:3]) for name in found if ".norm." not in name}
        assert layers == {("encoder", "layers", str(k)) for k in range(3)}
        assert sum(".norm." in name for name in found) == 2 * (2 * 12 + 3 * 12)

    def test_a_tied_matrix_by_each_of_its_names(self):
        every = [self.frozen([name]) for name in ("source_embedding", "target_embedding", "head")]
        assert every == [{"source_embedding.weight"}] * 3
        assert self.frozen(["head"], tie="none") == {"head.weight"}

    @pytest.mark.parametrize(
        ("entries", "words"),
        [
            (["encoder.layer.1"], "did you mean 'encoder.layers.1'?"),
            (["embedding"], "known: source_embedding, target_embedding, encoder, decoder, head"),
            (["encoder.layers.12"], "no part of this model is called 'encoder.layers.12'"),
            (["*"], "nothing is left to train"),
            (["encoder", "decoder", "head"], "nothing is left to train"),
        ],
    )
    def test_what_cannot_be(self, entries, words):
        with pytest.raises(RecipeError, match=r"^model\.freeze") as caught:
            self.frozen(entries)
        assert words in str(caught.value)

    @pytest.mark.parametrize("value", ["encoder", [1], [""]])
    def test_no_list_of_names(self, value):
        settings = {"task": "translation", "training": {"max_steps": 1}, "model": {"freeze": value}}
        with pytest.raises(RecipeError, match=r"model\.freeze: needs a list of names"):
            Recipe.from_settings(settings).check()

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_it_does_not_move(self, run, precision):
        settings = {
            "model.start_from": "run",
            "model.freeze": ["encoder", "source_embedding"],
            "training.precision": precision,
            "training.optimizer": {"kind": "adamw", "weight_decay": 0.1},
            "training.ema": 0.5,
            "training.gradient_checkpointing": True,
            "training.checkpoint.every_steps": 1,
            "training.checkpoint.average": 2,
        }
        made = workflow.train("tiny.toml", settings, run="frozen")
        before, after = held(load(run).model), held(load("frozen").model)
        for name, value in after.items():
            still = name.startswith(("encoder.", "source_embedding."))
            assert torch.equal(value, before[name]) == still, name
        moving = {name for name in after if name.startswith("decoder.")}
        assert weights(made.path, 2).keys() == moving
        assert weights(made.path, 2, "ema").keys() == moving
        memory = {name.split("/")[1] for name in weights(made.path, 2, "optimizer")}
        assert memory == moving

        # Stopped and gone on with, it ends in the same bits.
        workflow.train("tiny.toml", {**settings, "training.max_steps": 1}, run="two")
        workflow.train("two", {"training.max_steps": 2}, resume=True)
        for name in ("model", "ema", "optimizer"):
            assert same(weights(run.parent / "two", 2, name), weights(made.path, 2, name))


class TestAdapters:
    def test_a_run(self, run):
        made = workflow.train("tiny.toml", ADAPTER, run="tuned").path
        model = load("tuned").model
        own = {name for name in held(model) if ".adapters." in name}
        assert weights(made, 2).keys() == own
        base = load_file(made / "checkpoints" / "base" / "base.safetensors")
        assert same(base, held(load(run).model))
        with safe_open(made / "checkpoints/step-000002/model.safetensors", "pt") as file:
            said = json.loads(file.metadata()["adapter"])
        assert said["rank"] == 2
        assert Recipe.load(made, settled=True).model["adapter"] == said
        assert f"{sum(held(model)[name].numel() for name in own):,} of them" in (
            made / "README.md"
        ).read_text(encoding="utf-8")

    def test_a_new_run_takes_it_over_merged(self, run):
        workflow.train("tiny.toml", {**ADAPTER, "training.max_steps": 1}, run="tuned")
        said = []
        more = {"model.start_from": "tuned", "training.max_steps": 1}
        workflow.train("tiny.toml", more, run="next", say=said.append)
        assert "new, drawn at random: none" in said
        assert "not used of that run: none" in said
        assert "adapter" not in Recipe.load("next", settled=True).model

    def test_it_needs_weights_to_stand_beside(self, folder):
        with pytest.raises(RecipeError, match=r"model\.adapter: an adapter needs trained weights"):
            workflow.train("tiny.toml", {"model.adapter": "lora"}, run="x")
        assert not (folder / "x").exists()

    @pytest.mark.parametrize(
        ("adapter", "words"),
        [
            ("lara", "did you mean 'lora'"),
            ({"kind": "lora", "rnk": 2}, r"did you mean model\.adapter\.rank"),
            ({"kind": "lora", "rank": 0}, r"model\.adapter\.rank"),
            ({"kind": "lora", "alpha": 0}, r"model\.adapter\.alpha"),
            ({"kind": "lora", "targets": ["query"]}, "did you mean 'queries'"),
            (3, "needs a kind or a table"),
        ],
    )
    def test_wrong_settings(self, run, adapter, words):
        settings = {"model.start_from": "run", "model.adapter": adapter}
        with pytest.raises(RecipeError, match=words):
            workflow.train("tiny.toml", settings, run="x")

    def test_another_base(self, run):
        made = workflow.train("tiny.toml", ADAPTER, run="tuned").path
        file = made / "checkpoints/step-000002/model.safetensors"
        wide = workflow.train("tiny.toml", {"model.d_model": 16}, run="wide").path
        deep = workflow.train("tiny.toml", {"model.num_layers": 2}, run="deep").path
        for other, words in ((wide, "has shape"), (deep, "is missing")):
            with pytest.raises(CheckpointError, match=words):
                load_adapter(load(other).model, file)
        with pytest.raises(CheckpointError, match="holds no adapters"):
            load_adapter(load(run).model, run / "checkpoints/step-000002/model.safetensors")
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_adapter(load(run).model, "tiny.toml")

    def test_a_damaged_base_is_noticed(self, run):
        made = workflow.train("tiny.toml", ADAPTER, run="tuned").path
        path = made / "checkpoints" / "base" / "base.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match=r"of its base, .* cut short"):
            load(made)
        path.unlink()
        with pytest.raises(CheckpointError, match=r"of its base, .* missing"):
            load(made)


def test_check_says_what_trains_and_how_fast(run):
    settings = {"model.start_from": "run", "model.freeze": ["encoder"]}
    found = list(check("tiny.toml", {**settings, "training.layer_decay": 0.5}))
    model = load(run).model
    every = sum(p.numel() for p in model.parameters())
    some = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("encoder."))
    (line,) = [row.seen for row in found if row.seen.startswith("trains: ")]
    assert line == f"trains: {some:,} of {every:,} parameters ({some / every:.2%})"
    highest = next(row.values["rate"] for row in found if row.what == "schedule")
    rates = {k: v for row in found if row.what == "learning rate" for k, v in row.values.items()}
    assert rates.keys() == {n for n in held(model) if not n.startswith("encoder.")}
    assert rates["source_embedding.weight"] == pytest.approx(highest / 4)
    assert rates["decoder.layers.0.feed_forward.norm.weight"] == pytest.approx(highest / 2)
