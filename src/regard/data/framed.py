"""Texts framed for an encoder: [CLS] text [SEP], or [CLS] one [SEP] another [SEP].

Shapes: B examples, T tokens of the longest with its special ones. (Devlin et al., 2019, figure 2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.data.codecs import Target, column_rows
from regard.data.prepared import PreparedData
from regard.data.tokenizers import Tokenizer
from regard.errors import RecipeError

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[Any]

IGNORED = -100
"""A label that does not count."""


@dataclass(frozen=True)
class Frame:
    """The special tokens around one text or two.

    Attributes:
        separators: end tokens between two texts (RoBERTa's has 2).
        num_segments: kinds of segments that the model tells apart.
    """

    start_id: int
    end_id: int
    pad_id: int
    separators: int = 1
    num_segments: int = 2

    @classmethod
    def of(cls, tokenizer: Tokenizer, num_segments: int) -> Frame:
        """As a tokenizer has them: its start token opens a text, its end token closes it."""
        ids = (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id)
        return cls(*ids, getattr(tokenizer, "pair_separators", 1), num_segments)

    def specials(self, sides: int) -> int:
        """How many special tokens stand around so many texts."""
        return 2 + (sides - 1) * self.separators

    def places(self, sizes: Sequence[int]) -> Ints:
        """Where the tokens of texts of these sizes stand among the special ones."""
        found = []
        start = 1
        for size in sizes:
            found.append(np.arange(start, start + size))
            start += size + self.separators
        return np.concatenate(found)

    def batch(self, texts: Sequence[Sequence[Ids]]) -> dict[str, Tensor]:
        """``ids`` and ``mask`` [B, T], and ``segments`` [B, T] where texts are pairs."""
        sides = len(texts[0])
        sizes = np.array([[len(part) for part in parts] for parts in texts])
        lengths = sizes.sum(axis=1) + self.specials(sides)
        ids = np.full((len(texts), lengths.max()), self.pad_id, dtype=np.int64)  # [B, T]
        segments = np.zeros_like(ids)
        between = [self.end_id] * self.separators
        for n, parts in enumerate(texts):
            whole: list[Any] = [[self.start_id], parts[0]]
            for part in parts[1:]:
                whole += [between, part]
            ids[n, : lengths[n]] = np.concatenate([*whole, [self.end_id]])
            segments[n, 1 + sizes[n, 0] + self.separators : lengths[n]] = sides - 1
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        made = {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}
        if sides > 1 and self.num_segments > 1:
            made["segments"] = torch.from_numpy(segments)
        return made


class Texts:
    """Examples of one text or two, with what the model shall answer.

    What is too long loses its end; of two texts the longer one does.

    Args:
        columns: of the texts.
        frame: the special tokens around them.
        longest: tokens that the model reads, special ones included.
        target: column and codec of the answers; None where there are none.

    Raises:
        RecipeError: no token of a text would be left.
    """

    def __init__(
        self,
        columns: Sequence[str],
        frame: Frame,
        longest: int,
        target: tuple[str, Target] | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.frame = frame
        self.longest = longest
        self.target = target
        if self.room < 1:
            raise RecipeError(
                f"is {longest}: the special tokens alone take {longest - self.room}",
                where="data.max_length",
            )

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of each example, special ones included [N, 1]."""
        sizes: Ints = self.kept(data).sum(axis=1, keepdims=True)
        return sizes + self.frame.specials(len(self.columns))

    def kept(self, data: PreparedData, rows: Ints | None = None) -> Ints:
        """Tokens of each text that are read [N, sides]."""
        sizes = np.stack([data.lengths(name) for name in self.columns], axis=1)
        return cut(sizes if rows is None else sizes[rows], self.room)

    @property
    def room(self) -> int:
        """Tokens that the texts of an example may have together."""
        return self.longest - self.frame.specials(len(self.columns))

    def __call__(self, data: PreparedData, rows: Ints) -> dict[str, Tensor]:
        """``ids``, ``mask``, ``segments`` [B, T], ``labels`` and ``example`` [B]."""
        made = self.frame.batch(self.texts(data, rows))
        if self.target is not None:
            column, codec = self.target
            made["labels"] = codec.tensor(column_rows(data.column(column), rows))
        made["example"] = torch.from_numpy(np.array(rows, dtype=np.int64))
        return made

    def texts(self, data: PreparedData, rows: Ints) -> list[list[Ids]]:
        """What is read of some examples' texts."""
        parts = [column_rows(data.column(name), rows) for name in self.columns]
        kept = self.kept(data, rows)
        return [
            [part[:size] for part, size in zip(one, sizes, strict=True)]
            for one, sizes in zip(zip(*parts, strict=True), kept, strict=True)
        ]


class TaggedTexts:
    """Texts of words, with what stands at the first piece of each word.

    Args:
        texts: of one column, the pieces of all words end to end.
        lengths: column of how many pieces each word has.
        labels: column of a label a word; None where there are none.
    """

    def __init__(self, texts: Texts, lengths: str, labels: str | None) -> None:
        self.texts = texts
        self.columns = (lengths, labels)

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of each example, special ones included [N, 1]."""
        return self.texts.lengths(data)

    def __call__(self, data: PreparedData, rows: Ints) -> dict[str, Tensor]:
        """``ids``, ``mask``, ``firsts`` (where words begin) and ``labels`` [B, T]; ``example``."""
        made = self.texts(data, rows)
        firsts = torch.zeros_like(made["mask"])
        labels = torch.full_like(made["ids"], IGNORED)
        lengths, wanted = self.columns
        known = None if wanted is None else column_rows(data.column(wanted), rows)
        for n, sizes in enumerate(column_rows(data.column(lengths), rows)):
            begins = 1 + np.cumsum(sizes, dtype=np.int64) - sizes.astype(np.int64)
            places = torch.from_numpy(begins[begins <= self.texts.room])
            firsts[n, places] = True
            if known is not None:
                labels[n, places] = torch.from_numpy(known[n][: len(places)].astype(np.int64))
        if known is not None:
            made["labels"] = labels
        return {**made, "firsts": firsts}


def cut(sizes: Ints, room: int) -> Ints:
    """How much stays of each text where all of an example have ``room`` tokens together.

    Args:
        sizes: [N, sides], one side or two.
    """
    if sizes.shape[1] == 1:
        return np.minimum(sizes, room)
    half, least = room // 2, sizes.min(axis=1)
    shorter = np.where(sizes.sum(axis=1) <= room, least, np.minimum(least, half))
    longer = np.minimum(sizes.max(axis=1), room - shorter)
    first_is_longer = sizes[:, 0] > sizes[:, 1]
    return np.stack(
        [np.where(first_is_longer, longer, shorter), np.where(first_is_longer, shorter, longer)],
        axis=1,
    )
