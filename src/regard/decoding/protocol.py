"""What decoding needs of a model: a state, and a step that goes on from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from regard.errors import InputError


class State(Protocol):
    """What a model remembers of a batch's outputs so far, behind it the caches.

    Its rows stand sentence by sentence: row ``sentence * width + place``.
    """

    def advance(self, parents: Tensor) -> None:
        """Let row r go on from old row ``parents[r]``, of the same sentence; ``[R]`` int64."""

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but these; ``[S']`` int64, indices in the present batch."""


S = TypeVar("S", bound=State)
S_contra = TypeVar("S_contra", bound=State, contravariant=True)


class Stepper(Protocol[S_contra]):
    """A model that goes on from a state."""

    def step(self, tokens: Tensor, state: S_contra) -> Tensor:
        """Feed ``[R, n]`` tokens; logits ``[R, V]`` after the last one, the caller's to change."""
        ...


class EncoderDecoder(Protocol[S]):
    """A model whose state starts from a source."""

    def start(self, source_ids: Tensor, *, source_mask: Tensor | None = None, width: int = 1) -> S:
        """The state before the first token; ``width`` rows for each of the sentences."""
        ...

    def step(self, tokens: Tensor, state: S) -> Tensor:
        """See :class:`Stepper`."""
        ...


@dataclass(frozen=True)
class Request:
    """What is asked of each sentence beside the spec; the lists have one entry a sentence.

    Attributes:
        end_id: the token that ends an output.
        limits: the most tokens of the output, prefix and end token included.
        prefixes: tokens that the output must begin with.
        indices: the sentence's number in the caller's input; random draws depend on it, so that
            they do not depend on the batch.
        forbidden: tokens that are never produced.
    """

    end_id: int
    limits: list[int]
    prefixes: list[list[int]]
    indices: list[int]
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for index, limit, prefix in zip(self.indices, self.limits, self.prefixes, strict=True):
            if len(prefix) >= limit:
                raise InputError(
                    f"a prefix of {len(prefix)} tokens leaves nothing of an output of {limit}",
                    where=f"sentence {index + 1}",
                    hint="allow a longer output or give a shorter prefix",
                )
            if self.end_id in prefix:
                raise InputError("the prefix has an end token", where=f"sentence {index + 1}")

    @property
    def common(self) -> int:
        """Prefix tokens that every sentence has, fed in one step with the first token."""
        return min(map(len, self.prefixes), default=0)

    @property
    def longest(self) -> int:
        """Tokens of the longest prefix; those after ``common`` are forced step by step."""
        return max(map(len, self.prefixes), default=0)

    def barred(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens that may not come next: before ``min_length`` is reached, and after."""
        late = torch.tensor(self.forbidden, dtype=torch.long, device=device)
        return torch.cat([late, late.new_tensor([self.end_id])]), late

    def forced(self, device: torch.device) -> Tensor:
        """``[sentences, longest]``: the prefix token that must stand there, -1 where it is free."""
        table = torch.full((len(self.prefixes), self.longest), -1)
        for row, prefix in zip(table, self.prefixes, strict=True):
            row[: len(prefix)] = torch.tensor(prefix, dtype=torch.long)
        return table.to(device)


class Selectable(Protocol):
    """Rows of a batch, of which sentences can be chosen."""

    @property
    def sentences(self) -> list[int]:
        """Which of the request's sentences stand in the batch."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        ...

    def select(self, places: Tensor) -> Self:
        """Only these sentences of the batch."""
        ...


B = TypeVar("B", bound=Selectable)

LEAVING = 0.25
"""Share of a batch that must be finished before it leaves: leaving copies what stays."""


def leave(state: State, batch: B, done: list[bool]) -> B:
    """Let finished sentences leave the batch and the state, once they are enough to be worth it.

    Args:
        state: loses them too, unless all are finished.
        batch: what decoding knows of the rows.
        done: whether each sentence of the batch is finished.
    """
    staying = [place for place, over in enumerate(done) if not over]
    gone = len(done) - len(staying)
    if gone == 0 or (staying and gone < LEAVING * len(done)):
        return batch
    places = torch.tensor(staying, dtype=torch.long, device=batch.device)
    if staying:
        state.keep(places)
    return batch.select(places)
