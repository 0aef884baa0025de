"""Which of the field's formats says a model of ours, and that it says the whole of it."""

import re

import pytest

from regard import registry
from regard.errors import InputError
from regard.interop.hf import form_for


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


def test_what_only_training_knows_is_told():
    config = config_of("gpt", "stories15m", num_layers=1, **{"layer.dropout": 0.1})
    found, unsaid = form_for("gpt", config)
    assert found.model_type == "llama"
    assert unsaid == ["layer.dropout"]
