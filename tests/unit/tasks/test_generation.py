import pytest

from regard.decoding import DecodingSpec
from regard.errors import InputError, RegardError
from regard.tasks.generation import with_options


def test_none_leaves_the_recipe_as_it_is():
    spec = DecodingSpec(beam=4)
    assert with_options(spec, {"beam": None, "max_length": None}) == spec


def test_a_length_penalty_keeps_its_kind():
    spec = with_options(DecodingSpec(), {"length_penalty": 0.6, "length_penalty_kind": "gnmt"})
    assert (spec.length_penalty.kind, spec.length_penalty.alpha) == ("gnmt", 0.6)


def test_options_of_sampling_ask_for_sampling():
    spec = with_options(DecodingSpec(beam=5), {"temperature": 0.7})
    assert spec.strategy == "sample"
    assert spec.temperature == 0.7


def test_a_beam_asks_for_beam_search():
    sampling = DecodingSpec(strategy="sample", temperature=0.5)
    spec = with_options(sampling, {"beam": 3})
    assert (spec.strategy, spec.beam, spec.temperature) == ("beam", 3, 1.0)


def test_more_hypotheses_than_the_beam_widen_it():
    assert with_options(DecodingSpec(beam=5), {"nbest": 8}).beam == 8
    with pytest.raises(RegardError, match="3 hypotheses"):
        with_options(DecodingSpec(), {"nbest": 3, "beam": 2})


def test_several_outputs_of_a_greedy_recipe_ask_for_a_beam():
    spec = with_options(DecodingSpec(strategy="greedy", beam=2), {"nbest": 3})
    assert (spec.strategy, spec.beam, spec.nbest) == ("beam", 3, 3)
    with pytest.raises(RegardError, match="3 hypotheses"):
        with_options(DecodingSpec(), {"nbest": 3, "strategy": "greedy"})


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'nbest'"):
        with_options(DecodingSpec(), {"n_best": 3})  # type: ignore[typeddict-unknown-key]
