"""Published weights and stored outputs: the same numbers, and the same file back.

They lie in ../shared/data, which a checkout may lack.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regard import registry
from regard.cost import on_meta
from regard.decoding import DecodingSpec, Request, continue_from
from regard.errors import CheckpointError, InputError
from regard.interop import llama, llama2c
from regard.interop.hf import read_directory, read_tensors, write_directory
from regard.interop.slots import fill
from regard.spec import build, resolve

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


def model_of(family: str, config: Any, tensors: dict[str, Tensor]) -> nn.Module:
    model: nn.Module = registry.family(family).model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[name])
    return model


def opened(name: str) -> nn.Module:
    found = read_directory(DATA / name)
    form, config, tensors = found.form, found.config, found.tensors
    return model_of(form.family, config, tensors)


def ids_of(values: Any) -> Tensor:
    return torch.from_numpy(values).long()


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["ckpt_made_hf/gpt2", "ckpt_made_hf/llama_gqa", "ckpt_made_hf/vit"]
)
def test_logits_are_the_stored_ones_and_the_file_comes_back(name: str, tmp_path: Path) -> None:
    found = read_directory(DATA / name)
    form, config, tensors = found.form, found.config, found.tensors
    stored = np.load(DATA / name / "io.npz")
    (given,) = (torch.from_numpy(stored[key]) for key in stored if key.startswith("in_"))
    made = model_of(form.family, config, tensors)(given)
    torch.testing.assert_close(made, torch.from_numpy(stored["out_logits"]), rtol=0, atol=1e-5)
    write_directory(form, config, tensors, tmp_path)
    before, after = read_tensors(DATA / name), read_tensors(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert read_directory(tmp_path).config == config


@torch.no_grad()
@pytest.mark.parametrize("name", ["t5_relu", "t5_gated_gelu"])
def test_t5(name: str, tmp_path: Path) -> None:
    found = read_directory(DATA / "ckpt_made_hf" / name)
    form, config, tensors = found.form, found.config, found.tensors
    assert config.scale_states == (name == "t5_relu")  # both are tied
    stored = np.load(DATA / "ckpt_made_hf" / name / "io.npz")
    model: Any = model_of(form.family, config, tensors)
    source, mask = ids_of(stored["in_input_ids"]), ids_of(stored["in_attention_mask"]).bool()
    states = model.encode(source, source_mask=mask).states
    expected = torch.from_numpy(stored["out_encoder"])
    torch.testing.assert_close(states[mask], expected[mask], rtol=0, atol=1e-5)
    made = model(source, ids_of(stored["in_decoder_input_ids"]), source_mask=mask)
    torch.testing.assert_close(made, torch.from_numpy(stored["out_logits"]), rtol=0, atol=1e-5)
    write_directory(form, config, tensors, tmp_path)
    before, after = read_tensors(DATA / "ckpt_made_hf" / name), read_tensors(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert read_directory(tmp_path).config == config


@torch.no_grad()
def test_berts_words_and_states(tmp_path: Path) -> None:
    for name, inputs, output in (
        ("ckpt_made_hf/bert_mlm", "in_{}", "out_logits"),
        ("ckpt_tiny_bert_hf", "{}", "last_hidden"),
    ):
        stored = np.load(next((DATA / name).glob("*.npz")))
        given = {
            key: ids_of(stored[inputs.format(key)])
            for key in ("input_ids", "attention_mask", "token_type_ids")
        }
        real = given["attention_mask"].bool()
        made = opened(name)(given["input_ids"], mask=real, segments=given["token_type_ids"])
        expected = torch.from_numpy(stored[output])
        torch.testing.assert_close(made[real], expected[real], rtol=0, atol=1e-5)


@torch.no_grad()
def test_tiny_gpt2() -> None:
    stored = np.load(DATA / "ckpt_tiny_gpt2_hf" / "reference.npz")
    logits = opened("ckpt_tiny_gpt2_hf")(ids_of(stored["input_ids"]))
    expected = torch.from_numpy(stored["logits_first512"])
    torch.testing.assert_close(logits[..., :512], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_story_in_the_fields_form() -> None:
    stored = np.load(DATA / "ckpt_tiny_llama_hf" / "reference.npz")
    model = opened("ckpt_tiny_llama_hf")
    logits = model(ids_of(stored["input_ids"])[None])[0]
    torch.testing.assert_close(logits, torch.from_numpy(stored["logits"]), rtol=0, atol=1e-4)
    assert story(model) == stored["greedy_ids"].tolist()


def test_the_story_in_llama2_cs_form() -> None:
    settings, weights = llama2c.read_weights(DATA / "ckpt_stories260k" / "stories260K.bin")
    family = registry.family("gpt")
    config = build(family.config, resolve(family.defaults, settings))
    tensors = fill(on_meta(family, config), llama.table(config), weights, where="stories")
    expected = json.loads((DATA / "ckpt_stories260k" / "expected_greedy.json").read_text())
    assert story(model_of("gpt", config, tensors)) == expected["token_ids"]


@torch.inference_mode()
def story(model: Any, steps: int = 200) -> list[int]:
    """The greedy continuation of the start token, 1."""
    spec = DecodingSpec(strategy="greedy", max_length=steps)
    request = Request(end_id=2, limits=[steps], prefixes=[[]], indices=[0])
    ((found,),) = continue_from(model, model.start(1), torch.tensor([[1]]), spec, request)
    return [1, *found.tokens]


class TestRefusals:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        for path in (DATA / "ckpt_made_hf" / "gpt2").iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return tmp_path

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
            ({"brand_new": 1}, "these settings are not known: brand_new"),
            ({"activation_function": "quick_gelu"}, "activation_function = 'quick_gelu'"),
            ({"model_type": "gptx"}, "model_type = 'gptx' is not supported"),
            ({"architectures": ["GPT2ForX"]}, "'GPT2ForX' is not supported"),
        ],
    )
    def test_settings(self, copy: Path, changes: dict[str, Any], words: str) -> None:
        given = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**given, **changes}))
        with pytest.raises(InputError, match=words):
            read_directory(copy)

    def test_another_size(self, copy: Path) -> None:
        given = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**given, "n_layer": 3}))
        with pytest.raises(CheckpointError, match=r"decoder\.layers\.2\..* is left empty"):
            read_directory(copy)

    def test_a_pickle(self, copy: Path) -> None:
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
        with pytest.raises(InputError, match="a pickle, which may run any code"):
            read_directory(copy)

    def test_files_cut_short(self, copy: Path, tmp_path: Path) -> None:
        path = copy / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(InputError, match=r"model\.safetensors: cannot be read"):
            read_directory(copy)
        raw = (DATA / "ckpt_stories260k" / "stories260K.bin").read_bytes()
        (tmp_path / "short.bin").write_bytes(raw[:-8])
        with pytest.raises(InputError, match=r"holds [\d,]+ numbers, its header asks for"):
            llama2c.read_weights(tmp_path / "short.bin")
