"""Spans of text behind sentinels, for encoder-decoders that learn to write them.

Shapes: B blocks, S tokens of a source and T of a target, the end token of each counted. (Raffel et
al., 2020, sections 3.1.4 and 3.3.4; lengths and spans as T5's code has them, ``random_spans_*`` in
t5/data/preprocessors.py.)

Which spans of a block are hidden follows from (seed, epoch, where the block begins) alone. Blocks
of one length give sources of one length and targets of one length: nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from regard.data.blocks import BlockSource
from regard.data.tokenizers import Tokenizer
from regard.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    Batch = dict[str, Tensor]

Ints = npt.NDArray[np.int64]

GAPS = 100
"""Sentinels of a vocabulary, as T5 has them."""


def gap(number: int) -> str:
    """The sentinel of a text's gap, counted from 0."""
    return f"<extra_id_{number}>"


def gap_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids of a vocabulary's sentinels, in order."""
    found = [tokenizer.id_of(gap(number)) for number in range(GAPS)]
    return [number for number in found if number is not None]


@dataclass(frozen=True)
class Corruption:
    """How spans are hidden.

    Attributes:
        rate: share of a block's tokens that are to be written.
        span_length: how many of them stand together, on average.
        gap_ids: the sentinels.
        start_id, end_id: around a target; a source ends in the latter too.
    """

    rate: float
    span_length: float
    gap_ids: Sequence[int]
    start_id: int
    end_id: int

    def spans(self, length: int) -> tuple[int, int]:
        """Tokens hidden in a block of so many, and in how many spans."""
        hidden = min(max(round(length * self.rate), 1), length - 1)
        return hidden, min(max(round(hidden / self.span_length), 1), length - hidden)

    def lengths(self, length: int) -> tuple[int, int]:
        """S and T of a block of so many tokens."""
        hidden, spans = self.spans(length)
        return length - hidden + spans + 1, hidden + spans + 1

    def block(self, longest: int) -> int:
        """Tokens of the longest block of which neither side is longer than this.

        Raises:
            RecipeError: there is none, or it has more gaps than there are sentinels.
        """
        length = 1
        while max(self.lengths(length + 1)) <= longest:
            length += 1
        if length < 2:
            raise RecipeError(
                f"{longest} tokens leave no room for text beside the special ones",
                where="data.max_length",
            )
        _, spans = self.spans(length)
        if spans > len(self.gap_ids):
            raise RecipeError(
                f"texts of {length:,} tokens have {spans} gaps, the vocabulary "
                f"{len(self.gap_ids)} sentinels {gap(0)}, {gap(1)} …",
                where="objective.span_length",
                hint="lower data.max_length or objective.mask_rate, or choose longer spans",
            )
        return length

    def hide(self, ids: Ints, random: np.random.Philox) -> tuple[Ints, Ints]:
        """The two sides of a block [n]: its text with gaps, and what stood there.

        Returns:
            source [S] and target [T + 1], start token first.
        """
        hidden, spans = self.spans(len(ids))
        kept = _segments(len(ids) - hidden, spans, random)
        lost = _segments(hidden, spans, random)
        source, target, place = list[Ints](), [np.array([self.start_id])], 0
        for number in range(spans):
            mark = np.array([self.gap_ids[number]])
            middle = place + int(kept[number])
            source += [ids[place:middle], mark]
            place = middle + int(lost[number])
            target += [mark, ids[middle:place]]
        end = np.array([self.end_id])
        return np.concatenate([*source, end]), np.concatenate([*target, end])


def _segments(count: int, pieces: int, random: np.random.Philox) -> Ints:
    """Lengths [pieces] of at least 1 that add up to ``count``, each such cut as likely."""
    cuts = np.argsort(random.random_raw(max(count - 1, 1)), kind="stable")[: pieces - 1]
    return np.diff(np.concatenate([[0], np.sort(cuts) + 1, [count]]))


class CorruptedBlocks:
    """Micro-batches of blocks with gaps; `regard.data.batching.BatchSource`'s face.

    Args:
        blocks: of the text, one token longer than what is predicted from (they share one).
        corruption: which spans are hidden.
    """

    def __init__(self, blocks: BlockSource, corruption: Corruption) -> None:
        self.blocks = blocks
        self.corruption = corruption

    def num_micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has."""
        return self.blocks.num_micro_batches(epoch)

    def micro_batch(self, epoch: int, k: int) -> Batch:
        """``source_ids`` [B, S], ``target_ids`` [B, T + 1], their masks, and ``start`` [B]."""
        import torch

        raw = self.blocks.micro_batch(epoch, k)
        sides = []
        for start, row in zip(raw["start"].tolist(), raw["ids"].numpy(), strict=True):
            seed = [self.blocks.settings.seed, epoch, start]
            sides.append(self.corruption.hide(row, np.random.Philox(np.random.SeedSequence(seed))))
        made = {"start": raw["start"]}
        for name, rows in zip(("source", "target"), zip(*sides, strict=True), strict=True):
            made[f"{name}_ids"] = torch.from_numpy(np.stack(rows))
            made[f"{name}_mask"] = torch.ones_like(made[f"{name}_ids"], dtype=torch.bool)
        return made

    def tokens(self, epoch: int = 0) -> Ints:
        """Real tokens of each side, special ones included, in each micro-batch [K, 2]."""
        whole, found = self.blocks.settings.length, []
        for starts in self.blocks.plan(epoch):
            length = min(whole, self.blocks.length - 1 - int(starts.max())) + 1
            found.append([len(starts) * side for side in self.corruption.lengths(length)])
        return np.array(found)

    def worst(self, epoch: int = 0) -> int:
        """The micro-batch that takes most memory."""
        return self.blocks.worst(epoch)

    def describe(self, batch: Batch) -> list[str]:
        """Where the blocks of a batch begin: ``file:line`` each."""
        return self.blocks.describe(batch)

    def close(self) -> None:
        """Nothing works ahead."""
