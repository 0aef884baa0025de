"""Masked blocks: text of which some tokens are hidden, for encoders that learn to guess them.

Shapes: B blocks, T tokens of the longest with its special ones. (Devlin et al., 2019, section 3.1.)

Which tokens of a block are hidden follows from (seed, epoch, where the block begins) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from regard.data.blocks import BlockSource
from regard.data.framed import IGNORED, Frame
from regard.data.tokenizers import Tokenizer
from regard.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    Batch = dict[str, Tensor]

Ints = npt.NDArray[np.int64]

HIDDEN, REPLACED = 0.8, 0.1
"""Of the tokens to guess, those hidden behind the mask and those replaced; the others stay."""


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Attributes:
        rate: share of a block's tokens that are to be guessed.
        mask_id: what hides a token.
        replacements: ids that may stand in a token's place [V'].
        begins: whether an id begins a word [V], where words are hidden whole; else None.
    """

    rate: float
    mask_id: int
    replacements: Ints
    begins: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, rate: float, *, whole_word: bool) -> Masking:
        """For a tokenizer's text.

        Raises:
            RecipeError: it has no mask, or does not tell where words begin.
        """
        if tokenizer.mask_id is None:
            raise RecipeError("the tokenizer has no token to hide others behind", where="tokenizer")
        special = {
            tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.unk_id,
            tokenizer.mask_id, *map(tokenizer.id_of, tokenizer.extra),
        }  # fmt: skip
        others = [i for i in range(tokenizer.vocab_size) if i not in special]
        begins = word_begins(tokenizer) if whole_word else None
        return cls(rate, tokenizer.mask_id, np.array(others), begins)

    def hide(self, ids: Ints, random: np.random.Philox) -> Ints:
        """Hide some of ``ids`` [n] in place; gives the labels [n], `IGNORED` where none counts."""
        labels = np.full(len(ids), IGNORED, dtype=np.int64)
        if not len(ids):
            return labels
        chosen = self._chosen(ids, random)
        labels[chosen] = ids[chosen]
        dice = random.random_raw(len(ids))[chosen] / 2.0**64
        others = self.replacements[
            (random.random_raw(len(ids))[chosen] % np.uint64(len(self.replacements))).astype(int)
        ]
        ids[chosen] = np.where(
            dice < HIDDEN,
            self.mask_id,
            np.where(dice < HIDDEN + REPLACED, others, ids[chosen]),
        )
        return labels

    def _chosen(self, ids: Ints, random: np.random.Philox) -> Ints:
        """Places to guess: the share of them, at least one; with words whole, so far as it goes."""
        wanted = max(1, round(self.rate * len(ids)))
        if self.begins is None:
            return np.argsort(random.random_raw(len(ids)), kind="stable")[:wanted]
        words = np.maximum(np.cumsum(self.begins[ids]) - 1, 0)  # the word of each token
        order = np.argsort(random.random_raw(int(words[-1]) + 1), kind="stable")
        sizes = np.bincount(words, minlength=len(order))[order]
        last = int(np.searchsorted(np.cumsum(sizes), wanted, side="right"))
        taken = order[: max(last, 1)]
        return np.nonzero(np.isin(words, taken))[0]


def word_begins(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Whether each entry of the vocabulary begins a word [V].

    Raises:
        RecipeError: its entries don't tell.
    """
    model: dict[str, Any] = tokenizer.definition["model"]
    entries = tokenizer.vocabulary
    if model["type"] == "WordPiece":
        inside = model.get("continuing_subword_prefix", "##")
        return np.array([not entry.startswith(inside) for entry in entries])
    if model["type"] in ("BPE", "Unigram"):
        return np.array([entry.startswith(("Ġ", "▁")) for entry in entries])
    raise RecipeError(
        f"the tokenizer {tokenizer.kind!r} does not tell where words begin",
        where="objective.whole_word",
        hint="use bpe, unigram or wordpiece",
    )


class MaskedBlocks:
    """Micro-batches of masked blocks; `regard.data.batching.BatchSource`'s face.

    With ``next_sentence`` a block is cut in two segments, and of every second one the other
    segment is replaced by text from another place.

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
            parts, other = self._parts(row, random)
            unrelated.append(other)
            hidden = np.concatenate(parts)
            labels.append(self.masking.hide(hidden, random))
            texts.append(np.split(hidden, [len(parts[0])]) if len(parts) > 1 else [hidden])
        made = self.frame.batch(texts)
        wanted = torch.full_like(made["ids"], IGNORED)
        for n, (parts, found) in enumerate(zip(texts, labels, strict=True)):
            places = self.frame.places([len(part) for part in parts])
            wanted[n, torch.from_numpy(places)] = torch.from_numpy(found)
        made |= {"labels": wanted, "start": raw["start"]}
        return {**made, "unrelated": torch.tensor(unrelated)} if self.next_sentence else made

    def _parts(self, row: Ints, random: np.random.Philox) -> tuple[list[Ints], int]:
        """One segment, or two and whether the second belongs elsewhere."""
        if not self.next_sentence:
            return [row], 0
        draws = random.random_raw(3)
        cut = 1 + int(draws[0] % np.uint64(max(len(row) - 1, 1)))
        first, second = row[:cut], row[cut:]
        other = int(draws[1] % np.uint64(2))
        if other and len(second):
            place = int(draws[2] % np.uint64(max(self.blocks.length - len(second), 1)))
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
