"""Settings of decoding: penalties by hand, refusals by key."""

from __future__ import annotations

from typing import Any

import pytest

from regard.decoding import DecodingSpec, LengthPenalty
from regard.errors import RegardError
from regard.spec import build


def test_penalties_by_hand() -> None:
    assert LengthPenalty()(4) == 4.0
    assert LengthPenalty("power", 0.5)(9) == 3.0
    assert LengthPenalty("power", 0.0)(9) == 1.0
    assert LengthPenalty("gnmt", 1.0)(7) == 2.0
    assert LengthPenalty("gnmt", 0.6)(1) == 1.0
    assert LengthPenalty("gnmt", 0.6)(25) == pytest.approx(5**0.6)


def test_limits() -> None:
    assert DecodingSpec().limit(7) == 57
    assert DecodingSpec(max_length="input").limit(7) == 7
    assert DecodingSpec(max_length="input").limit(0) == 1
    assert DecodingSpec(max_length=12).limit(7) == 12


def test_width() -> None:
    assert DecodingSpec(beam=4).width == 4
    assert DecodingSpec(strategy="greedy", beam=4).width == 1
    assert DecodingSpec(strategy="sample", beam=4, nbest=7).width == 7


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("strategy", {"strategy": "best"}),
        ("stop", {"stop": "never"}),
        ("beam", {"beam": 0}),
        ("nbest", {"nbest": 0}),
        ("nbest", {"beam": 2, "nbest": 3}),
        ("nbest", {"strategy": "greedy", "nbest": 3}),
        ("max_length", {"max_length": 0}),
        ("max_length", {"max_length": "input*2"}),
        ("min_length", {"min_length": -1}),
        ("min_length", {"min_length": 9, "max_length": 8}),
        ("temperature", {"strategy": "sample", "temperature": 0.0}),
        ("top_p", {"strategy": "sample", "top_p": 1.5}),
        ("top_p", {"strategy": "sample", "top_p": 0.0}),
        ("top_k", {"strategy": "sample", "top_k": -1}),
        ("min_p", {"strategy": "sample", "min_p": 2.0}),
        ("repetition_penalty", {"repetition_penalty": 0.0}),
        ("temperature", {"temperature": 0.7}),
        ("top_k", {"strategy": "greedy", "top_k": 5}),
    ],
)
def test_wrong_settings_name_their_key(key: str, settings: dict[str, Any]) -> None:
    with pytest.raises(RegardError) as error:
        DecodingSpec(**settings)
    assert error.value.where == f"decoding.{key}"


def test_a_penalty_of_another_kind() -> None:
    with pytest.raises(RegardError, match="gnmt"):
        LengthPenalty("sqrt")  # type: ignore[arg-type]


def test_built_from_a_recipes_words() -> None:
    settings = {"beam": 4, "length_penalty": {"kind": "gnmt", "alpha": 0.6}, "max_length": 60}
    spec = build(DecodingSpec, settings, where="decoding")
    assert spec == DecodingSpec(beam=4, length_penalty=LengthPenalty("gnmt", 0.6), max_length=60)
    with pytest.raises(RegardError, match="unknown key"):
        build(DecodingSpec, {"beams": 4}, where="decoding")
