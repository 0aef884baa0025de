"""Which of the field's formats says a model of ours, and that it says the whole of it."""

import re

import pytest

from regard import registry
from regard.cost import on_meta
from regard.errors import InputError
from regard.interop.hf import _config as config_from
from regard.interop.hf import form_for
from regard.interop.settings import Settings


def config_of(family, preset, **overrides):
    config = registry.family(family).config
    return config.preset(preset, vocab_size=40, overrides=overrides)


@pytest.mark.parametrize(
    ("family", "preset", "form"),
    [
        ("gpt", "gpt2", "gpt2"),
        ("gpt", "stories15m", "llama"),
        ("gpt", "llama3-8b", "llama"),
        ("bert", "tiny", "bert"),
        ("bert", "roberta-base", "roberta"),
        ("bert", "distilbert", "distilbert"),
    ],
)
def test_presets_of_the_field(family, preset, form):
    found, unsaid = form_for(family, config_of(family, preset, num_layers=1))
    assert found.model_type == form
    assert unsaid == []


@pytest.mark.parametrize("head", ["masked_lm", "classification", "tokens", "span", "none"])
@pytest.mark.parametrize("preset", ["tiny", "roberta-base", "distilbert"])
def test_heads_of_encoders(preset, head):
    config = config_of("bert", preset, num_layers=1, head=head)
    if (preset, head) == ("distilbert", "classification"):
        with pytest.raises(InputError, match="no format of the field can say this bert"):
            form_for("bert", config)
        return
    found, unsaid = form_for("bert", config)
    assert found.write(config)["architectures"][0] in found.architectures
    assert unsaid == []


@pytest.mark.parametrize("tie", ["all", "target", "none"])
def test_the_original_transformer_as_marian(tie):
    positions = {"kind": "sinusoidal", "layout": "halves"}
    config = config_of("transformer", "tiny", tie=tie, positions=positions, **{"head.bias": True})
    assert form_for("transformer", config)[0].model_type == "marian"


@pytest.mark.parametrize(
    ("family", "preset", "words"),
    [
        ("gpt", "gpt1", "gpt2 cannot say .*norm"),
        ("gpt", "nano", "gpt2: the format|gpt2 cannot say .*bias = False"),
        ("transformer", "tiny", "marian cannot say .*layout = 'interleaved'"),
    ],
)
def test_what_none_can_say(family, preset, words):
    with pytest.raises(InputError, match="no format of the field can say this") as caught:
        form_for(family, config_of(family, preset))
    assert re.search(words, caught.value.hint or "")


@pytest.mark.parametrize(
    ("family", "preset", "name"), [("gpt", "gpt2", "gpt2"), ("bert", "base", "bert")]
)
def test_a_norm_without_the_bias_that_the_format_has(family, preset, name):
    config = config_of(family, preset, **{"layer.norm.bias": False})
    with pytest.raises(InputError) as caught:
        form_for(family, config)
    assert f"{name} cannot say layer.norm.bias = False" in (caught.value.hint or "")


@pytest.mark.parametrize(("preset", "bias"), [("gpt2", True), ("stories15m", False)])
def test_a_default_may_be_said(preset, bias):
    config = config_of("gpt", preset, num_layers=1, **{"layer.norm.bias": bias})
    assert form_for("gpt", config)[1] == []


def test_what_only_training_knows_is_told():
    config = config_of("gpt", "stories15m", num_layers=1, **{"layer.dropout": 0.1})
    found, unsaid = form_for("gpt", config)
    assert found.model_type == "llama"
    assert unsaid == ["layer.dropout"]


GPT2 = {
    "activation_function": "gelu_new",
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}
BERT = {
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}
ROBERTA = {
    **{key: BERT[key] for key in BERT if key != "position_embedding_type"},
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "vocab_size": 50265,
}
DISTILBERT = {
    "activation": "gelu",
    "attention_dropout": 0.1,
    "dim": 768,
    "dropout": 0.1,
    "hidden_dim": 3072,
    "initializer_range": 0.02,
    "max_position_embeddings": 512,
    "n_heads": 12,
    "n_layers": 6,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "vocab_size": 30522,
}
MARIAN = {
    "_num_labels": 3,
    "activation_dropout": 0.0,
    "activation_function": "swish",
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "attention_dropout": 0.0,
    "bad_words_ids": [[58100]],
    "bos_token_id": 0,
    "classif_dropout": 0.0,
    "d_model": 512,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 6,
    "decoder_start_token_id": 58100,
    "dropout": 0.1,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 6,
    "eos_token_id": 0,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    "max_length": 512,
    "max_position_embeddings": 512,
    "normalize_before": False,
    "normalize_embedding": False,
    "num_beams": 6,
    "num_hidden_layers": 6,
    "pad_token_id": 58100,
    "scale_embedding": True,
    "static_position_embeddings": True,
    "vocab_size": 58101,
}


@pytest.mark.parametrize(
    ("name", "given", "architecture", "parameters"),
    [
        ("gpt2", GPT2, "GPT2LMHeadModel", 124_439_808),
        ("bert", BERT, "BertForMaskedLM", 109_514_298),
        ("roberta", ROBERTA, "RobertaForMaskedLM", 124_697_433),
        ("distilbert", DISTILBERT, "DistilBertForMaskedLM", 66_985_530),
        ("marian", MARIAN, "MarianMTModel", 73_886_208 + 58_101),  # the output bias
    ],
)
def test_published_configs_are_understood(name, given, architecture, parameters):
    form = registry.kind("formats", name)
    config = config_from(form, Settings(given, "config.json", architecture=architecture))
    model = on_meta(registry.family(form.family), config)
    assert sum(one.numel() for one in model.parameters()) == parameters
