"""What tasks that write text share: decoding options, hypotheses as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from regard import decoding
from regard.decoding import DecodingSpec, LengthPenalty
from regard.errors import InputError
from regard.registry import nearest


class DecodingOptions(TypedDict, total=False):
    """What a call may say otherwise than the recipe's ``decoding``; None leaves it as it is."""

    strategy: Literal["beam", "greedy", "sample"] | None
    beam: int | None
    nbest: int | None
    length_penalty: float | None
    length_penalty_kind: Literal["gnmt", "power"] | None
    stop: Literal["first", "all", "bound", "present"] | None
    min_length: int | None
    max_length: int | str | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None


@dataclass(frozen=True)
class Hypothesis:
    """One text that a model offers.

    Attributes:
        text: as a user reads it.
        score: log-probability over the length penalty; larger is better.
        tokens: the pieces that the model wrote, without start and end.
    """

    text: str
    score: float
    tokens: Sequence[str]


def with_options(spec: DecodingSpec, options: DecodingOptions) -> DecodingSpec:
    """The recipe's decoding with what a call says otherwise.

    A beam given for a recipe that samples asks for beam search, as several outputs do where the
    recipe is greedy; options of sampling ask for sampling. So a caller need not say ``strategy``.

    Raises:
        InputError: for an unknown option.
        RegardError: for a value that cannot be.
    """
    known = DecodingOptions.__annotations__
    for name in options:
        if name not in known:
            near = nearest(name, known)
            raise InputError(
                f"there is no option {name!r}",
                hint=f"did you mean {near!r}?" if near else f"known: {', '.join(known)}",
            )
    changes: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    alpha = changes.pop("length_penalty", spec.length_penalty.alpha)
    kind = changes.pop("length_penalty_kind", spec.length_penalty.kind)
    changes["length_penalty"] = LengthPenalty(kind, alpha)
    if "strategy" not in changes:
        if "beam" in changes:
            changes["strategy"] = "beam"
        elif changes.keys() & {"temperature", "top_k", "top_p", "min_p"}:
            changes["strategy"] = "sample"
        elif spec.strategy == "greedy" and changes.get("nbest", 1) > 1:
            changes["strategy"] = "beam"
    strategy = changes.get("strategy", spec.strategy)
    if strategy == "beam" and "nbest" in changes and "beam" not in changes:
        changes["beam"] = max(spec.beam, changes["nbest"])
    if strategy != "sample":
        changes = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | changes
    if strategy == "greedy":
        changes = {"nbest": 1} | changes
    return dataclasses.replace(spec, **changes)


def as_text(found: decoding.Hypothesis, tokenizer: Any) -> Hypothesis:
    """A hypothesis of ids as text."""
    return Hypothesis(tokenizer.decode(found.tokens), found.score, tokenizer.tokens(found.tokens))
