"""The door by which users talk with a model: turns in, its answer out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack, overload

from torch import nn

from regard.data import Tokenizer, Turn
from regard.data.readers import turns_of
from regard.decoding import DecodingSpec
from regard.errors import InputError
from regard.tasks.generation import DecodingOptions, with_options
from regard.tasks.generator import MAX_NEW_TOKENS, Generator
from regard.tasks.turns import Roles, Script

Turns = str | Sequence[Turn | tuple[str, str] | Mapping[str, str]]
"""A text of the role that asks, or turns: ``[role, text]`` or ``{"role": …, "content": …}``."""


class Chat(Generator):
    """Answers in a dialogue, and writes on from plain text.

    Attributes:
        roles: the run's declared table.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, decoding: DecodingSpec, roles: Roles
    ) -> None:
        super().__init__(model, tokenizer, decoding)
        self.roles = roles
        self._script = Script(roles, tokenizer)

    @overload
    def chat(
        self,
        turns: Turns,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Literal[False] = False,
        **options: Unpack[DecodingOptions],
    ) -> str: ...

    @overload
    def chat(
        self,
        turns: Turns,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Literal[True],
        **options: Unpack[DecodingOptions],
    ) -> Iterator[str]: ...

    def chat(
        self,
        turns: Turns,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: bool = False,
        **options: Unpack[DecodingOptions],
    ) -> Any:
        """The answer to a dialogue so far.

        Args:
            turns: the dialogue, the newest turn last. Where it is longer than the model reads, the
                oldest turns are left out: `within` says which stay.
            max_new_tokens: tokens of the answer at most; it also ends where the model is full.
            stream: give the answer in pieces, as it comes.
            **options: of decoding, as of `generate`.

        Returns:
            The answer; with ``stream`` an iterator of its pieces.

        Raises:
            InputError: the last turn alone is longer than the model reads, or is an answer.
            DataError: a turn is empty or of an unknown role.
        """
        spec = with_options(self.decoding, options)
        ids = self._asked(self.within(turns, max_new_tokens=max_new_tokens))
        room = min(max_new_tokens, self._longest - len(ids))
        return self._written(ids, spec, room, stream=stream)

    predict = chat  # type: ignore[assignment]

    def turns(self, given: Turns) -> list[Turn]:
        """What `chat` takes, checked."""
        value = [Turn(self.roles.asks, given)] if isinstance(given, str) else given
        return turns_of(value, tuple(self.roles.markers), where="chat")

    def within(self, turns: Turns, *, max_new_tokens: int = MAX_NEW_TOKENS) -> list[Turn]:
        """The newest turns that the model reads, with room for an answer.

        Three quarters of what the model reads are for turns, however long the answer may be. An
        answer does not stay without its question.

        Raises:
            InputError, DataError: see `chat`.
        """
        given = kept = self.turns(turns)
        if kept[-1].role == self.roles.answers:
            raise InputError("the last turn is an answer already", where="chat")
        most = max(self._longest - max_new_tokens, self._longest * 3 // 4)
        sizes = [len(self._script.ids([turn])) for turn in kept]
        room = most - 1 - len(self._script.opening)
        while (len(kept) > 1 and sum(sizes) > room) or (
            kept is not given and kept[0].role == self.roles.answers
        ):
            kept, sizes = kept[1:], sizes[1:]
        if len(self._asked(kept)) + 1 > self._longest:
            raise InputError(
                f"the turn has {sizes[-1]:,} tokens, the model reads {self._longest:,}",
                hint="say it in fewer words",
            )
        return kept

    def _asked(self, turns: Sequence[Turn]) -> list[int]:
        """What the model reads before it answers: as in training, a separator stands first."""
        return [self.tokenizer.end_id, *self._script.ids(turns), *self._script.opening]

    def _barred(self) -> set[int]:
        return super()._barred() | self._script.special_ids

    def _read(self, text: str) -> list[int]:
        return self._asked(self.within(text))

    def _goes_on(self, text: str, room: int) -> str:
        return self.chat(text, strategy="greedy", max_new_tokens=room)
