"""Masked blocks: text of which some tokens are hidden, for encoders that learn to guess them.

Shapes: B blocks, T tokens of the longest with its special ones. (Devlin et al., 2019, section 3.1.)

Which tokens of a block are hidden follows from (seed, epoch, where the block begins) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from regard.data.blocks import BlockSource
from regard.data.framed import IGNORED, Frame
from regard.data.tokenizers import Tokenizer
from regard.data.tokenizers.base import MASK
from regard.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    Batch = dict[str, Tensor]

Ints = npt.NDArray[np.int64]

HIDDEN, REPLACED = 0.8, 0.1
"""Of the tokens to guess, those hidden behind the mask and those replaced; the others stay."""


Flags = npt.NDArray[np.bool_]

SPACES = ("Ġ", "▁")
"""A space, as entries of byte-level and of unigram vocabularies have it; its word follows it."""

BREAKS = ("Ċ", "č", "ĉ", "\n", "\r", "\t", "<0x0A>", "<0x0D>", "<0x09>")
"""The same of white space that belongs to no word."""


class Words(NamedTuple):
    """What a vocabulary says of words.

    Attributes:
        begin: whether an entry begins one [V].
        end: whether what follows an entry begins one [V].
    """

    begin: Flags
    end: Flags


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden; special ones never are.

    Attributes:
        rate: share of a block's tokens that are to be guessed.
        mask_id: what hides a token.
        ordinary: whether an id is no special entry: it may be hidden, and stand for another [V].
        words: where words are hidden whole; else None.
    """

    rate: float
    mask_id: int
    ordinary: Flags
    words: Words | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, rate: float, *, whole_word: bool) -> Masking:
        """For a tokenizer's text.

        Raises:
            RecipeError: it has no mask, or does not tell where words begin.
        """
        if tokenizer.mask_id is None:
            raise RecipeError(
                f"the tokenizer has no entry {MASK} to hide others behind",
                where="tokenizer",
                hint="start_from brings the tokenizer of its run: start from one that has it, "
                "or leave model.start_from out",
            )
        ordinary = np.ones(tokenizer.vocab_size, dtype=bool)
        ordinary[list(tokenizer.special_ids)] = False
        words = words_of(tokenizer, ~ordinary) if whole_word else None
        return cls(rate, tokenizer.mask_id, ordinary, words)

    def hide(self, ids: Ints, random: np.random.Philox, begins: Sequence[int] = (0,)) -> Ints:
        """Hide some of ``ids`` [n] in place.

        Args:
            ids: of a block.
            random: where the draws come from.
            begins: places where a word begins whatever stands before.

        Returns:
            labels [n], `IGNORED` where none counts.
        """
        labels = np.full(len(ids), IGNORED, dtype=np.int64)
        chosen = self._chosen(ids, random, begins)
        labels[chosen] = ids[chosen]
        dice = random.random_raw(len(ids))[chosen] / 2.0**64
        replacements = np.nonzero(self.ordinary)[0]
        drawn = random.random_raw(len(ids))[chosen] % np.uint64(len(replacements))
        others = replacements[drawn.astype(np.int64)]
        ids[chosen] = np.where(
            dice < HIDDEN,
            self.mask_id,
            np.where(dice < HIDDEN + REPLACED, others, ids[chosen]),
        )
        return labels

    def _chosen(self, ids: Ints, random: np.random.Philox, begins: Sequence[int]) -> Ints:
        """Places to guess: the share of the ordinary ones, at least one where there is any.

        Whole words are taken as long as they fit into the share; a longer one if all are.
        """
        ordinary = np.nonzero(self.ordinary[ids])[0]
        wanted = max(1, round(self.rate * len(ordinary)))
        draws = random.random_raw(len(ids))
        if self.words is None:
            return ordinary[np.argsort(draws[ordinary], kind="stable")[:wanted]]
        first = self.words.begin[ids]
        first[1:] |= self.words.end[ids[:-1]]
        first[list(begins)] = True
        words = np.cumsum(first)[ordinary]  # the word of each
        numbers, sizes = np.unique(words, return_counts=True)
        order = np.argsort(draws[: len(numbers)], kind="stable").tolist()
        taken, room = list[int](), wanted
        for n in order:
            if sizes[n] <= room:
                taken.append(n)
                room -= sizes[n]
        return ordinary[np.isin(words, numbers[taken or order[:1]])]


def words_of(tokenizer: Tokenizer, special: Flags) -> Words:
    """What the entries of a vocabulary say; a special one is a word of its own.

    Raises:
        RecipeError: they don't tell where words begin.
    """
    model: dict[str, Any] = tokenizer.definition["model"]
    entries = tokenizer.vocabulary
    if model["type"] == "WordPiece":
        inside = model.get("continuing_subword_prefix", "##")
        begin = np.array([not entry.startswith(inside) for entry in entries])
        return Words(begin | special, special)
    if model["type"] in ("BPE", "Unigram"):
        begin = np.array([entry.startswith(SPACES + BREAKS) for entry in entries])
        end = np.array([entry.endswith(BREAKS) for entry in entries])
        return Words(begin | special, end | special)
    raise RecipeError(
        f"the tokenizer {tokenizer.kind!r} does not tell where words begin",
        where="objective.whole_word",
        hint="use bpe, unigram or wordpiece",
    )


class MaskedBlocks:
    """Micro-batches of masked blocks; `regard.data.batching.BatchSource`'s face.

    With ``next_sentence`` a block is cut in two segments, and in half of the blocks, drawn at
    random, the second is replaced by text from another place.

    Args:
        blocks: of the text, one token longer than what is predicted from (they share one).
        frame: the special tokens.
        masking: which tokens are hidden.
        next_sentence: whether there are two segments.
    """

    def __init__(
        self, blocks: BlockSource, frame: Frame, masking: Masking, *, next_sentence: bool
    ) -> None:
        self.blocks = blocks
        self.frame = frame
        self.masking = masking
        self.next_sentence = next_sentence

    def num_micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has."""
        return self.blocks.num_micro_batches(epoch)

    def micro_batch(self, epoch: int, k: int) -> Batch:
        """``ids``, ``mask``, ``labels`` [B, T]; with two segments ``segments``, ``unrelated`` [B].

        ``labels`` are the hidden tokens; ``unrelated`` is 1 where the second segment is no
        continuation of the first.
        """
        import torch

        raw = self.blocks.micro_batch(epoch, k)
        texts, labels, unrelated = [], [], []
        for start, row in zip(raw["start"].tolist(), raw["ids"].numpy(), strict=True):
            seed = [self.blocks.settings.seed, epoch, start]
            random = np.random.Philox(np.random.SeedSequence(seed))
            parts, other = self._parts(start, row, random)
            unrelated.append(other)
            hidden, cut = np.concatenate(parts), len(parts[0])
            labels.append(self.masking.hide(hidden, random, (0, cut) if other else (0,)))
            texts.append([hidden[:cut], hidden[cut:]][: len(parts)])
        made = self.frame.batch(texts)
        wanted = torch.full_like(made["ids"], IGNORED)
        for n, (parts, found) in enumerate(zip(texts, labels, strict=True)):
            places = self.frame.places([len(part) for part in parts])
            wanted[n, torch.from_numpy(places)] = torch.from_numpy(found)
        made |= {"labels": wanted, "start": raw["start"]}
        return {**made, "unrelated": torch.tensor(unrelated)} if self.next_sentence else made

    def _parts(self, start: int, row: Ints, random: np.random.Philox) -> tuple[list[Ints], int]:
        """One segment, or two and whether the second belongs elsewhere."""
        if not self.next_sentence:
            return [row], 0
        draws = random.random_raw(3)
        cut = 1 + int(draws[0] % np.uint64(len(row) - 1))
        first, second = row[:cut], row[cut:]
        # Elsewhere is before this block or behind it, so that no token of it comes again.
        before = max(start - len(second) + 1, 0)
        behind = max(self.blocks.length - start - len(row) - len(second) + 1, 0)
        other = int(draws[1] % np.uint64(2)) if before + behind else 0
        if other:
            place = int(draws[2] % np.uint64(before + behind))
            place += start + len(row) - before if place >= before else 0
            second = self.blocks.stream(np.arange(place, place + len(second)))
        return [first, second], other

    def tokens(self, epoch: int = 0) -> Ints:
        """Real tokens in each micro-batch, special ones included [K, 1]."""
        more = self.frame.specials(2 if self.next_sentence else 1) + 1
        counts = np.array([[len(starts)] for starts in self.blocks.plan(epoch)])
        found: Ints = self.blocks.tokens(epoch) + counts * more
        return found

    def worst(self, epoch: int = 0) -> int:
        """The micro-batch that takes most memory."""
        return self.blocks.worst(epoch)

    def describe(self, batch: Batch) -> list[str]:
        """Where the blocks of a batch begin: ``file:line`` each."""
        return self.blocks.describe(batch)

    def close(self) -> None:
        """Nothing works ahead."""
