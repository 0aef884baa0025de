"""Imported runs: what their recipes say."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regard import registry
from regard.data.framed import Frame
from regard.data.tokenizers import train_tokenizer
from regard.data.tokenizers.imported import imported
from regard.interop import hf
from regard.interop.exported import write_tokenizer
from regard.interop.runs import Imported, export_hf, read_hf, write_run
from regard.recipe import Recipe


def found(family, head=None, **more):
    """A small model as if it came from a file."""
    made = registry.family(family)
    overrides = {"num_layers": 1} | ({} if head is None else {"head": head})
    preset = {"bert": "tiny", "gpt": "gpt2", "transformer": "tiny"}[family]
    small = {"d_model": 12, "layer.attention.num_heads": 3} if family == "gpt" else {}
    config = made.config.preset(preset, vocab_size=40, overrides={**overrides, **small})
    tensors = dict(made.model(config).named_parameters())
    words = imported({}, {"end": 3, "mask": 5}, vocab_size=40)
    return Imported(family, config, tensors, {"tokenizer.json": words}, "made", **more)


CLASSES = {"kind": "classification", "num_classes": 2}
NUMBER = {"kind": "classification", "num_classes": 1}
TAGS = {"kind": "tokens", "num_classes": 2}


@pytest.mark.parametrize(
    ("family", "head", "labels", "problem", "objective"),
    [
        ("bert", "none", "", "", None),
        ("bert", "masked_lm", "", "", "masked_lm"),
        ("bert", {"kind": "masked_lm", "next_sentence": True}, "", "", "masked_lm"),
        ("bert", CLASSES, "ab", "", "classes"),
        ("bert", CLASSES, "ab", "single_label_classification", "classes"),
        ("bert", CLASSES, "ab", "multi_label_classification", "multi_label"),
        ("bert", NUMBER, "", "", "regression"),
        ("bert", NUMBER, "", "regression", "regression"),
        ("bert", TAGS, "ab", "", "classes"),
        ("bert", TAGS, "ab", "multi_label_classification", "classes"),
        ("bert", "span", "", "", "span"),
        ("gpt", None, "", "", "next_token"),
        ("transformer", None, "", "", None),
    ],
)
def test_the_recipe_holds(tmp_path, family, head, labels, problem, objective):
    write_run(found(family, head, labels=labels, problem=problem), tmp_path / "run")
    recipe = Recipe.load(tmp_path / "run", settled=True)
    if recipe.task != "states":  # which trains nothing
        recipe.check()
        registry.task(recipe.task)(recipe).objective()
    if objective is not None:
        assert recipe.objective.kind == objective
        assert recipe.objective.label_smoothing is None
    if family == "bert":
        assert recipe.data.max_length == recipe.model_config_for().max_positions


@pytest.mark.parametrize(
    ("head", "labels", "objective", "problem"),
    [
        (CLASSES, "ab", "classes", None),  # the usual one is not said
        (CLASSES, "ab", "multi_label", "multi_label_classification"),
        (NUMBER, "", "regression", "regression"),
    ],
)
def test_what_a_label_is_comes_back(tmp_path, head, labels, objective, problem):
    given = found("bert", head, labels=labels, problem=problem or "")
    write_run(given, tmp_path / "run")
    export_hf(tmp_path / "run", tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config.get("problem_type") == problem
    write_run(read_hf(tmp_path / "theirs"), tmp_path / "again")
    assert Recipe.load(tmp_path / "again", settled=True).objective.kind == objective


@pytest.mark.parametrize("preset", ["tiny", "roberta-base", "distilbert"])
def test_older_files_of_encoders_hold_the_numbers_of_the_places(tmp_path, preset):
    sizes = {"num_layers": 1, "d_model": 12, "layer.attention.num_heads": 3}
    family = registry.family("bert")
    config = family.config.preset(preset, vocab_size=40, overrides=sizes)
    form, _ = hf.form_for("bert", config)
    tensors = {name: one.detach() for name, one in family.model(config).named_parameters()}
    hf.write_directory(form, config, tensors, tmp_path, {}, [])
    held = hf.read_tensors(tmp_path)
    prefix = form.architectures[form.write(config)["architectures"][0]]
    held[f"{prefix}embeddings.position_ids"] = torch.arange(config.max_positions)[None]
    save_file(held, tmp_path / "model.safetensors")
    assert hf.read_directory(tmp_path).tensors.keys() == tensors.keys()


class TestTokenizerOnExport:
    """Texts stand there between the special tokens that the model reads here."""

    def read(self, tmp_path, family, config, tokenizer):
        """What transformers makes of the files."""
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        said = write_tokenizer({"tokenizer.json": tokenizer}, family, config, tmp_path)
        assert said == "tokenizer: tokenizer.json"
        return transformers.AutoTokenizer.from_pretrained(tmp_path)

    @pytest.mark.parametrize(("segments", "separators"), [(2, 1), (1, 2), (0, 1)])
    def test_of_encoders(self, tmp_path, segments, separators):
        own = train_tokenizer("wordpiece", ["a dog and a cat"] * 3, vocab_size=60, extra=["<mask>"])
        ids = {"pad": 0, "start": 1, "end": 2, "unk": 3, "mask": own.mask_id}
        ours = imported(own.definition, ids, pair_separators=separators)
        preset = {0: "distilbert", 1: "roberta-base", 2: "tiny"}[segments]
        config = registry.family("bert").config.preset(preset, vocab_size=60)
        theirs = self.read(tmp_path, "bert", config, ours)
        one, other = "a dog", "a cat and"
        assert theirs(one)["input_ids"] == [1, *ours.encode(one), 2]
        sides = [np.array(ours.encode(text)) for text in (one, other)]
        framed = Frame.of(ours, segments).batch([sides])
        made = theirs(one, other)
        assert made["input_ids"] == framed["ids"][0].tolist()
        assert ("token_type_ids" in made) == ("segments" in framed)
        if segments > 1:
            assert made["token_type_ids"] == framed["segments"][0].tolist()

    @pytest.mark.parametrize("prefix", [(), (1,)])
    def test_of_decoders(self, tmp_path, prefix):
        own = train_tokenizer("bpe", ["a dog and a cat"] * 3, vocab_size=280)
        ours = imported(own.definition, {"start": 1, "end": 2}, prefix=prefix)
        config = registry.family("gpt").config.preset("gpt2", vocab_size=280)
        theirs = self.read(tmp_path, "gpt", config, ours)
        assert dict(theirs("a dog")) == {
            "input_ids": [*prefix, *ours.encode("a dog")],
            "attention_mask": [1] * len([*prefix, *ours.encode("a dog")]),
        }

    def test_a_definition_with_its_own_keeps_it(self, tmp_path):
        own = train_tokenizer("wordpiece", ["a dog and a cat"] * 3, vocab_size=60)
        given = {**own.definition, "post_processor": {"type": "BertProcessing"}}
        given["post_processor"] |= {"sep": ["</s>", 2], "cls": ["<s>", 1]}
        ours = imported(given, {"start": 3, "end": 2, "unk": 3})
        config = registry.family("bert").config.preset("tiny", vocab_size=60)
        write_tokenizer({"tokenizer.json": ours}, "bert", config, tmp_path)
        written = json.loads((tmp_path / "tokenizer.json").read_text())
        assert written["post_processor"] == given["post_processor"]
