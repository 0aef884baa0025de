"""Generation configs of the field in the recipe's words."""

import pytest

from regard.decoding import DecodingSpec
from regard.errors import InputError
from regard.interop.generation import decoding_of
from regard.recipe import as_settings
from regard.recipe.sections import Decoding

POWER = {"kind": "power", "alpha": 1.0}
BEAM = {"strategy": "beam", "beam": 4, "stop": "present", "length_penalty": POWER}


@pytest.mark.parametrize(
    ("given", "shape", "expected"),
    [
        ({"num_beams": 4, "repetition_penalty": 1.2}, "encoder", {}),
        ({}, "decoder", {"strategy": "greedy"}),
        ({"repetition_penalty": 1.0, "min_length": 0}, "decoder", {"strategy": "greedy"}),
        ({"repetition_penalty": 1.2}, "decoder", {"strategy": "greedy", "repetition_penalty": 1.2}),
        ({"num_beams": 4, "min_length": 8}, "encoder-decoder", {**BEAM, "min_length": 7}),
        ({"num_beams": 4, "min_length": 1}, "encoder-decoder", BEAM),
        ({"num_beams": 4, "early_stopping": True}, "decoder", {**BEAM, "stop": "first"}),
        ({"num_beams": 4, "early_stopping": "never"}, "decoder", {**BEAM, "stop": "bound"}),
        (
            {"do_sample": True, "top_k": 50, "temperature": None, "repetition_penalty": 2},
            "decoder",
            {"strategy": "sample", "top_k": 50, "repetition_penalty": 2.0},
        ),
    ],
)
def test_what_is_taken_over(given, shape, expected):
    found, untaken = decoding_of(given, shape, "there")
    assert (found, untaken) == (expected, "")
    as_settings(Decoding(**found), DecodingSpec, where="decoding")


@pytest.mark.parametrize(
    ("given", "shape", "line"),
    [
        ({"no_repeat_ngram_size": 3}, "decoder", "no_repeat_ngram_size = 3"),
        (
            {"num_beams": 4, "num_beam_groups": 2, "forced_bos_token_id": 0},
            "encoder-decoder",
            "num_beam_groups = 2, forced_bos_token_id = 0",
        ),
        ({"suppress_tokens": [1, 2]}, "decoder", "suppress_tokens = [1, 2]"),
        ({"do_sample": True, "num_beams": 4}, "decoder", "num_beams = 4"),
        ({"min_length": 5}, "decoder", "min_length = 5"),
    ],
)
def test_what_is_not(given, shape, line):
    assert decoding_of(given, shape, "there")[1] == f"not taken over: {line}"
    neutral = {"no_repeat_ngram_size": 0, "num_beam_groups": 1, "suppress_tokens": []}
    neutral |= {"forced_bos_token_id": None, "num_beams": 1, "do_sample": True, "min_length": 0}
    assert decoding_of(neutral, shape, "there")[1] == ""
    assert decoding_of(given, "encoder", "there")[1] == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"early_stopping": "sometimes"}, "early_stopping = 'sometimes' is not supported"),
        ({"early_stopping": [1]}, "a generation setting has another type"),
        ({"repetition_penalty": "much"}, "a generation setting has another type"),
    ],
)
def test_what_is_not_understood(given, words):
    with pytest.raises(InputError, match=words) as caught:
        decoding_of({"num_beams": 4, **given}, "decoder", "there")
    assert caught.value.where == "there"
