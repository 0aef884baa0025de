"""What a decoding is asked for, and what it gives: settings, penalty, hypothesis."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from regard.errors import RegardError

_RELATIVE = re.compile(r"input(?:\+(\d+))?")


@dataclass(frozen=True)
class LengthPenalty:
    """What a hypothesis' log-probability is divided by, so that short ones don't always win.

    Attributes:
        kind: ``power`` is n^α (α = 1: the mean over the tokens, fairseq's ``--lenpen 1``);
            ``gnmt`` is ((5 + n) / 6)^α (Wu et al. 2016, section 7; "Attention Is All You Need",
            section 6.1, with α = 0.6).
        alpha: α; 0 switches the penalty off.
    """

    kind: Literal["gnmt", "power"] = "power"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("gnmt", "power"):
            raise _wrong("length_penalty.kind", self.kind, '"gnmt" or "power"')

    def __call__(self, length: int) -> float:
        """The divisor for n generated tokens, the end token counted and a prefix not."""
        base = (5 + length) / 6 if self.kind == "gnmt" else max(length, 1)
        return float(base**self.alpha)


@dataclass(frozen=True)
class DecodingSpec:
    """How to decode: the recipe's ``decoding.*``.

    Lengths count the tokens of the output, a forced prefix included; ``max_length`` counts the end
    token too.

    Attributes:
        strategy: ``beam``; ``greedy`` (the same as a beam of 1); ``sample``.
        beam: hypotheses kept open for each sentence.
        nbest: hypotheses returned for each sentence, best first; with ``sample``, samples drawn.
        length_penalty: see :class:`LengthPenalty`.
        stop: when a beam ends. ``first``: as soon as ``beam`` hypotheses are finished (fairseq).
            ``all``: never before the length limit. ``bound``: when no open hypothesis can still
            come among the ``nbest``; the result is that of ``all``. ``present``: when none would at
            its present length, as transformers has it by default (its ``early_stopping = True`` is
            ``first``, ``"never"`` is ``bound``); at the length limit what is unfinished competes.
        min_length: tokens that must stand before the end token.
        max_length: a number, or ``"input+50"`` for 50 more than the input has. What reaches it
            without an end token comes back unfinished, after all that are finished.
        temperature: divides the logits (``sample`` alone, as the next three).
        top_k: only the k likeliest tokens are drawn; 0 for all.
        top_p: only the likeliest tokens whose sum of probabilities reaches p are drawn.
        min_p: only tokens at least p times as likely as the likeliest are drawn.
        repetition_penalty: above 1, tokens already in the output become less likely
            (Keskar et al. 2019, section 4.1).
        seed: of the random draws.
    """

    strategy: Literal["beam", "greedy", "sample"] = "beam"
    beam: int = 5
    nbest: int = 1
    length_penalty: LengthPenalty = field(default_factory=LengthPenalty)
    stop: Literal["first", "all", "bound", "present"] = "first"
    min_length: int = 0
    max_length: int | str = "input+50"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_ranges(self)
        if self.strategy != "sample":
            _check_no_sampling(self)

    @property
    def width(self) -> int:
        """Rows that each sentence takes in the batch."""
        return {"beam": self.beam, "greedy": 1, "sample": self.nbest}[self.strategy]

    def limit(self, input_length: int) -> int:
        """The most tokens that the output of an input of this length may have."""
        if isinstance(self.max_length, int):
            return self.max_length
        match = _RELATIVE.fullmatch(self.max_length)
        assert match is not None  # checked at construction
        return max(1, input_length + int(match[1] or 0))


@dataclass(frozen=True)
class Hypothesis:
    """One output.

    Attributes:
        tokens: token ids without start and end token; a forced prefix is included.
        score: ``logprob`` divided by the length penalty.
        logprob: the model's log-probability of the generated tokens, the end token included and
            a forced prefix not.
        finished: whether the end token came before the length limit.
    """

    tokens: list[int]
    score: float
    logprob: float
    finished: bool


def _wrong(key: str, value: object, wanted: str) -> RegardError:
    return RegardError(f"must be {wanted}, not {value!r}", where=f"decoding.{key}")


def _check_choices(spec: DecodingSpec) -> None:
    if spec.strategy not in ("beam", "greedy", "sample"):
        raise _wrong("strategy", spec.strategy, '"beam", "greedy" or "sample"')
    if spec.stop not in ("first", "all", "bound", "present"):
        raise _wrong("stop", spec.stop, '"first", "all", "bound" or "present"')
    if isinstance(spec.max_length, str) and not _RELATIVE.fullmatch(spec.max_length):
        raise _wrong("max_length", spec.max_length, 'a number or "input+" and a number')


def _check_ranges(spec: DecodingSpec) -> None:
    for key in ("beam", "nbest", "max_length"):
        value = getattr(spec, key)
        if isinstance(value, int) and value < 1:
            raise _wrong(key, value, "at least 1")
    for key in ("min_length", "top_k"):
        if getattr(spec, key) < 0:
            raise _wrong(key, getattr(spec, key), "at least 0")
    for key in ("temperature", "repetition_penalty", "top_p"):
        if not getattr(spec, key) > 0:
            raise _wrong(key, getattr(spec, key), "above 0")
    if spec.top_p > 1:
        raise _wrong("top_p", spec.top_p, "at most 1")
    if not 0 <= spec.min_p <= 1:
        raise _wrong("min_p", spec.min_p, "between 0 and 1")
    if isinstance(spec.max_length, int) and spec.min_length > spec.max_length:
        raise _wrong("min_length", spec.min_length, f"at most max_length ({spec.max_length})")
    if spec.nbest > spec.width:
        raise RegardError(
            f"{spec.nbest} hypotheses wanted, but {spec.strategy} search keeps {spec.width}",
            where="decoding.nbest",
            hint='set decoding.strategy = "beam" and decoding.beam at least as large',
        )


def _check_no_sampling(spec: DecodingSpec) -> None:
    for key, neutral in (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0), ("min_p", 0.0)):
        if getattr(spec, key) != neutral:
            raise RegardError(
                f"has no meaning with strategy {spec.strategy!r}",
                where=f"decoding.{key}",
                hint='set decoding.strategy = "sample", or leave the key out',
            )
