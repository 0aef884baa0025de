"""A generation config of the field's in the recipe's words, and what has no word there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regard.errors import InputError
from regard.interop.settings import Settings

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "forced_bos_token_id": (),
    "suppress_tokens": ([],),
}
"""Keys that have no word of ours, and the values beside null that change nothing."""

STOPS = {True: "first", False: "present", None: "present", "never": "bound"}
"""``early_stopping``, as `regard.decoding.DecodingSpec.stop` says it."""


def decoding_of(given: Mapping[str, Any], shape: str, where: str) -> tuple[dict[str, Any], str]:
    """The recipe's ``decoding``, and a line about what is not taken over ("" for nothing).

    Args:
        given: of ``generation_config.json`` over ``config.json``.
        shape: of the family; an encoder decodes nothing.
        where: the directory, for errors.

    Raises:
        InputError: naming a key whose value is not understood.
    """
    if shape == "encoder":
        return {}, ""
    neutral = dict(NEUTRAL)
    if given.get("do_sample"):
        neutral["num_beams"] = (1,)
    if shape == "decoder":  # theirs counts the prompt, ours what comes after it
        neutral["min_length"] = (0,)
    left = [
        f"{key} = {given[key]!r}"
        for key, values in neutral.items()
        if given.get(key) is not None and given[key] not in values
    ]
    try:
        found = {**_search(given, where), **_limits(given, shape)}
    except (TypeError, ValueError) as error:
        raise InputError(f"a generation setting has another type: {error}", where=where) from error
    return found, f"not taken over: {', '.join(left)}" if left else ""


def _search(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """How the next token is chosen."""
    beams = given.get("num_beams") or 1
    if given.get("do_sample"):
        keys: dict[str, Callable[[Any], Any]] = {"temperature": float, "top_k": int, "top_p": float}
        own = {key: make(given[key]) for key, make in keys.items() if given.get(key) is not None}
        return {"strategy": "sample", **own}
    if beams == 1:
        return {"strategy": "greedy"}
    alpha = float(given.get("length_penalty") or 0.0) if "length_penalty" in given else 1.0
    return {
        "strategy": "beam",
        "beam": beams,
        "stop": Settings(given, where).translate("early_stopping", STOPS, None),
        "length_penalty": {"kind": "power", "alpha": max(alpha, 0.0)},
    }


def _limits(given: Mapping[str, Any], shape: str) -> dict[str, Any]:
    """What holds for every way to choose, where it is more than nothing."""
    found: dict[str, Any] = {}
    penalty = given.get("repetition_penalty")
    if penalty is not None and float(penalty) != 1.0:
        found["repetition_penalty"] = float(penalty)
    shortest = int(given.get("min_length") or 0) - 1  # theirs counts the start token
    if shape != "decoder" and shortest > 0:
        found["min_length"] = shortest
    return found
