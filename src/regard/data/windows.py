"""Windows: a question with as much of a long text as a model reads, again and again further on.

Shapes: M windows of N examples; B windows of a batch, T tokens of the longest.
(Devlin et al., 2019, and its reference code's document stride.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data.codecs import CodecError, column_rows
from regard.data.framed import Frame
from regard.data.prepared import PreparedData
from regard.data.tokenizers import Tokenizer
from regard.errors import RecipeError

Ints = npt.NDArray[np.int64]

LONGEST_QUESTION = 64
"""Pieces of a question that are read (the reference code's)."""


class Offsets:
    """From where to where in the text each piece reaches: two numbers a piece."""

    vocab_size = 1 << 32

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.fingerprint = f"offsets of {tokenizer.fingerprint}"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Start and end of each piece, one after the other; texts recur, question by question."""
        found = {
            text: [place for pair in self.tokenizer.offsets(text) for place in pair]
            for text in set(texts)
        }
        return [found[text] for text in texts]


class AnswerPlace:
    """From where to where in the text the first answer reaches; nothing where there is none."""

    vocab_size = 1 << 32
    fingerprint = "answer places"
    takes_empty = True

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Of answers as `regard.data.readers.squad` gives them."""
        made = []
        for number, text in enumerate(texts):
            try:
                found = json.loads(text)
                made.append([found[0][0], found[0][0] + len(found[0][1])] if found else [])
            except (ValueError, TypeError, IndexError, KeyError) as error:
                raise CodecError(f"{text!r} is no list of answers", number) from error
        return made


@dataclass(frozen=True)
class Placed:
    """Which window is which.

    Attributes:
        examples: of the data [M].
        begins: the first piece of the context in each [M].
        questions, contexts: pieces in each [M].
    """

    examples: Ints
    begins: Ints
    questions: Ints
    contexts: Ints


class Windows:
    """Windows of prepared questions; a batch's rows are windows, not examples.

    Args:
        frame: the special tokens.
        longest: tokens that the model reads, special ones included.
        stride: pieces between the beginnings of two windows, at most half of a window's room.
        answered: whether the data hold answers.

    Raises:
        RecipeError: the model reads too few tokens.
    """

    columns = ("question", "context", "offsets", "answer")

    def __init__(self, frame: Frame, longest: int, stride: int, *, answered: bool = True) -> None:
        self.frame = frame
        self.longest = longest
        self.longest_question = min(LONGEST_QUESTION, longest // 4)
        if longest - frame.specials(2) - self.longest_question < 1 or not self.longest_question:
            raise RecipeError(
                f"{longest} tokens leave no room for a question and a text", where="data.max_length"
            )
        self.stride = stride
        self.answered = answered
        self._last: tuple[PreparedData, Placed] | None = None

    def placed(self, data: PreparedData) -> Placed:
        """The windows of all examples, a pure function of their lengths."""
        if self._last is None or self._last[0] is not data:
            self._last = (data, self._place(data))
        return self._last[1]

    def _place(self, data: PreparedData) -> Placed:
        questions = np.minimum(data.lengths("question"), self.longest_question)
        contexts = data.lengths("context")
        room = self.longest - self.frame.specials(2) - questions
        stride = np.minimum(self.stride, np.maximum(room // 2, 1))
        counts = 1 + -(-np.maximum(contexts - room, 0) // stride)  # [N]
        examples = np.repeat(np.arange(len(counts)), counts)  # [M]
        numbers = np.arange(len(examples)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = numbers * stride[examples]
        sizes = np.minimum(contexts[examples] - begins, room[examples])
        return Placed(examples, begins, questions[examples], sizes)

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of each window [M, 1]."""
        placed = self.placed(data)
        return (placed.questions + placed.contexts + self.frame.specials(2))[:, None]

    def __call__(self, data: PreparedData, rows: Ints) -> dict[str, Tensor]:
        """A batch of windows.

        ``ids``, ``mask``, ``segments`` [B, T]; ``example`` [B]; ``first``, the place of the
        context's first piece, ``begin``, its number in the context, and ``size``, how many there
        are [B]; ``labels`` [B, 2], the places of the answer's first and last piece, both 0 (the
        start token) where the window does not hold it whole.
        """
        placed = self.placed(data)
        examples = placed.examples[rows]
        question, context = (column_rows(data.column(name), examples) for name in self.columns[:2])
        begins, sizes, heads = placed.begins[rows], placed.contexts[rows], placed.questions[rows]
        texts = [
            (question[n][: heads[n]], context[n][begins[n] : begins[n] + sizes[n]])
            for n in range(len(rows))
        ]
        firsts = 1 + heads + self.frame.separators  # [B]
        made = self.frame.batch(texts)
        if self.answered:
            labels = self.spans(data, examples)  # [B, 2], pieces of the context
            inside = (labels[:, 0] >= begins) & (labels[:, 1] < begins + sizes)
            places = np.where(inside[:, None], labels - begins[:, None] + firsts[:, None], 0)
            made["labels"] = torch.from_numpy(places)
        numbers = {"example": examples, "first": firsts, "begin": begins, "size": sizes}
        return {**made, **{name: torch.from_numpy(held) for name, held in numbers.items()}}

    def spans(self, data: PreparedData, examples: Ints) -> Ints:
        """First and last piece of each answer [B, 2]; -1 where there is none."""
        found = np.full((len(examples), 2), -1, dtype=np.int64)
        offsets, answers = (column_rows(data.column(name), examples) for name in self.columns[2:])
        for n, (places, answer) in enumerate(zip(offsets, answers, strict=True)):
            if len(answer):
                starts, ends = places[::2], places[1::2]
                found[n, 0] = np.searchsorted(ends, answer[0], side="right")
                found[n, 1] = np.searchsorted(starts, answer[1], side="left") - 1
        return found
