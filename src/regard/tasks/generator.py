"""The door by which users let a language model write on: a prompt in, text out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Unpack, cast, overload

import torch
from torch import nn

from regard import decoding
from regard.data import Tokenizer
from regard.data.framed import IGNORED
from regard.decoding import DecodingSpec, Request, continue_from, stream_from
from regard.decoding.stream import check_streamable
from regard.errors import InputError
from regard.nn.modes import evaluating
from regard.tasks.generation import DecodingOptions, Hypothesis, with_options

MAX_NEW_TOKENS = 200
LOOKED = 12
"""New tokens that a picture shows beside a text."""

CONTEXT = 8
"""Tokens of the prompt that decide how the first new ones read."""


class Generator:
    """Writes on from a prompt.

    Attributes:
        model: the trained module, called as ``model(ids)``.
        tokenizer: of its text.
        decoding: how outputs are searched unless a call says otherwise.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, decoding: DecodingSpec) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.decoding = decoding

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<{type(self).__name__}: {type(self.model).__name__}, {parameters:,} parameters>"

    @overload
    def generate(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Literal[False] = False,
        **options: Unpack[DecodingOptions],
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Literal[False] = False,
        **options: Unpack[DecodingOptions],
    ) -> list[str]: ...

    @overload
    def generate(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Literal[True],
        **options: Unpack[DecodingOptions],
    ) -> Iterator[str]: ...

    def generate(
        self,
        prompt: str | list[str] | tuple[str, ...] = "",
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: bool = False,
        **options: Unpack[DecodingOptions],
    ) -> Any:
        """Write on from a prompt.

        Args:
            prompt: what the text begins with; a list gives a list.
            max_new_tokens: at most so many more; a model that knows an end may stop before. Past
                the model's longest text, it goes on from the last half of what it wrote.
            stream: give the new pieces of text as they come.
            **options: of decoding, e.g. ``strategy="greedy"``, ``temperature=0.8``; ``nbest``
                above 1 gives a list of `Hypothesis`.

        Returns:
            The text, the prompt included; with ``stream`` an iterator of what comes after it.

        Raises:
            InputError: the prompt is longer than the model reads.
        """
        if not isinstance(prompt, str):
            if stream:
                raise InputError("one text at a time can be streamed")
            return [self.generate(one, max_new_tokens=max_new_tokens, **options) for one in prompt]
        spec = with_options(self.decoding, options)
        return self._written(self._prompt(prompt), spec, max_new_tokens, prompt, stream=stream)

    def _written(
        self, ids: list[int], spec: DecodingSpec, count: int, before: str = "", *, stream: bool
    ) -> Any:
        """What comes after ids, as `generate` gives it, with the text before it."""
        if count < 1:
            raise InputError(f"max_new_tokens is {count}, not at least 1")
        if stream:
            check_streamable(spec, 1)
            return self._pieces(ids, spec, count)
        if spec.strategy == "beam" or spec.width > 1:
            tokens = self.tokenizer.tokens
            texts = [
                Hypothesis(before + self._after(ids, one.tokens), one.score, tokens(one.tokens))
                for one in self._search(ids, spec, count)
            ]
            return texts if spec.nbest > 1 else texts[0].text
        return before + "".join(self._pieces(ids, spec, count))

    predict = generate

    def look_inputs(self, text: str, target: str | None = None) -> dict[str, Any]:
        """A text as the model reads it, for `regard.look.look`.

        Args:
            text: what is read.
            target: how it goes on, read too; None = as the model itself goes on, a little.

        Returns:
            ``inputs`` of the model [1, T], ``tokens``, ``labels`` [1, T] (of the target alone),
            ``predicts`` (the next token at each place) and ``target``.

        Raises:
            InputError: for an empty text, or one longer than the model reads.
        """
        if not self.tokenizer.encode(text):
            raise InputError("there is nothing to look at in an empty text")
        ids = self._read(text)
        room = min(LOOKED, self._longest - len(ids))
        answer = self._goes_on(text, room) if target is None else target
        whole = [*ids, *self.tokenizer.encode(answer)]
        if len(whole) > self._longest + 1:
            raise InputError(
                f"text and target have {len(whole):,} tokens, the model reads {self._longest:,}"
            )
        device = next(self.model.parameters()).device
        labels = torch.tensor([whole[1:]], device=device)
        labels[:, : len(ids) - 1] = IGNORED
        return {
            "inputs": {"ids": torch.tensor([whole[:-1]], device=device)},
            "tokens": {"decoder": self.tokenizer.tokens(whole[:-1])},
            "labels": labels,
            "predicts": self.tokenizer.tokens(whole[1:]),
            "target": answer,
        }

    def _read(self, text: str) -> list[int]:
        """What the model reads of a text that is looked at."""
        return self._prompt(text)

    def _goes_on(self, text: str, room: int) -> str:
        """What the model makes of it."""
        return self.generate(text, strategy="greedy", max_new_tokens=room)[len(text) :]

    def _barred(self) -> set[int]:
        """Tokens that are never written."""
        tokenizer = self.tokenizer
        special = {tokenizer.start_id, tokenizer.pad_id, tokenizer.unk_id, tokenizer.mask_id}
        return {i for i in special if i is not None and i >= 0} - {tokenizer.end_id}

    @property
    def _longest(self) -> int:
        return int(cast(Any, self.model).config.max_positions)

    def _prompt(self, prompt: str) -> list[int]:
        ids = [*self.tokenizer.prefix_ids, *self.tokenizer.encode(prompt)]
        if len(ids) + 1 > self._longest:
            raise InputError(
                f"the prompt has {len(ids):,} tokens, the model reads {self._longest:,}",
                hint="give its end alone",
            )
        return ids or [self.tokenizer.end_id]  # what documents begin after

    def _pieces(self, ids: list[int], spec: DecodingSpec, count: int) -> Iterator[str]:
        """New text, as far as it can be decided: a character may take several tokens."""
        written: list[int] = []
        shown = ""
        for token in self._tokens(ids, spec, count):
            written.append(token)
            text = self._after(ids, written)
            if not text.endswith("\N{REPLACEMENT CHARACTER}") and len(text) > len(shown):
                yield text[len(shown) :]
                shown = text
        text = self._after(ids, written)
        if len(text) > len(shown):
            yield text[len(shown) :]

    def _after(self, ids: list[int], written: list[int]) -> str:
        """The text of new tokens: what stands before them says whether a space is written."""
        before = ids[-CONTEXT:]
        return self.tokenizer.decode([*before, *written])[len(self.tokenizer.decode(before)) :]

    def _tokens(self, ids: list[int], spec: DecodingSpec, count: int) -> Iterator[int]:
        """Greedy or sampled tokens; where the model is full, on from the last half."""
        history, done, ended = list(ids), 0, False
        while done < count and not ended:
            room = self._longest - len(history)
            if room < 1:
                history = history[-max(1, self._longest // 2) :]
                room = self._longest - len(history)
            wanted = min(room, count - done)
            made = 0
            for token in stream_from(*self._begin(history, spec, wanted, done)):
                yield token
                history.append(token)
                made += 1
            done += made
            ended = made < wanted

    def _search(self, ids: list[int], spec: DecodingSpec, count: int) -> list[decoding.Hypothesis]:
        wanted = min(count, self._longest - len(ids))
        with evaluating(self.model):
            (found,) = continue_from(*self._begin(ids, spec, wanted, 0))
        return found

    def _begin(self, ids: list[int], spec: DecodingSpec, wanted: int, done: int) -> Any:
        """Model, state, first tokens, settings and request of a search."""
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            state = cast(Any, self.model).start(1, width=spec.width)
        request = Request(
            end_id=self.tokenizer.end_id,
            limits=[wanted],
            prefixes=[[]],
            indices=[done],
            forbidden=tuple(sorted(self._barred())),
        )
        return self.model, state, torch.tensor([ids], device=device), spec, request
