"""Kinds whose encoding runs in the ``tokenizers`` library: byte-level BPE, and what they share."""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice, pairwise
from typing import Any, Self

import numpy as np

from regard.data.prepared import Ids, Ints, id_type
from regard.data.tokenizers.base import SPECIALS, Tokenizer, TokenizerSettings, define
from regard.data.tokenizers.bytelevel import BYTES, as_text

MIN_COUNT = 2
"""A merge or a piece that was met once only is not learned."""

_MOST_WORDS = 500_000
"""Words whose pieces are known; some 100 MB."""

_LEARNING = threading.Lock()
"""Held while words are numbered and learned: servers encode in several threads."""


def spelled(settings: TokenizerSettings) -> str:
    """Pattern of the ``<`` of a text's own ``<s>`` or ``<0x0A>``, which must not be the token."""
    names = "|".join(re.escape(entry[1:-1]) for entry in (*SPECIALS, *settings.extra))
    return rf"<(?=(?:{names}|0x[0-9A-F]{{2}})>)"


def _has_plain_spaces(text: str) -> bool:
    """Whether the only white space is single spaces between words."""
    # What is printable has no white space but U+0020.
    return bool(text) and text.isprintable() and "  " not in text and text == text.strip(" ")


@dataclass(frozen=True)
class _Pieces:
    """The ids of numbered texts: those of number n are ``ids[ends[n]:ends[n + 1]]``."""

    ids: Ids
    ends: Ints

    def __len__(self) -> int:
        return len(self.ends) - 1

    def first(self, most: int) -> _Pieces:
        """Those of the lowest numbers."""
        return _Pieces(self.ids[: self.ends[most]].copy(), self.ends[: most + 1].copy())

    def and_(self, rows: Sequence[Sequence[int]]) -> _Pieces:
        """More behind them."""
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter(chain.from_iterable(rows), self.ids.dtype, int(sizes.sum()))
        ends = self.ends[-1] + np.cumsum(sizes)
        return _Pieces(np.concatenate((self.ids, flat)), np.concatenate((self.ends, ends)))

    def gather(self, numbers: Ints) -> tuple[Ids, Ints]:
        """The ids of these end to end, and how many each has."""
        sizes = self.ends[numbers + 1] - self.ends[numbers]
        before = np.cumsum(sizes) - sizes
        places = np.repeat(self.ends[numbers] - before, sizes) + np.arange(int(sizes.sum()))
        return self.ids[places], sizes


class LibraryTokenizer(Tokenizer):
    """Encodes and decodes with the library, from the same definition that the file holds."""

    def __init__(self, definition: dict[str, Any]) -> None:
        super().__init__(definition)
        assert self._library is not None  # a damaged file shows here, not at the first text
        self._type = id_type(self.vocab_size)
        self._words = defaultdict[str, int](count().__next__)
        self._pieces = _Pieces(np.zeros(0, self._type), np.zeros(1, np.int64))

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        ids, sizes = self.encode_packed(texts)
        flat, ends = ids.tolist(), np.cumsum(sizes).tolist()
        return [flat[start:end] for start, end in pairwise((0, *ends))]

    def encode_packed(self, texts: Sequence[str]) -> tuple[Ids, Ints]:
        """``encode_batch`` as prepared data hold it: all ids end to end, and each text's number."""
        if not texts:
            return np.zeros(0, self._type), np.zeros(0, np.int64)
        # All kinds here cut before each space and encode the parts alone, so a text is its words,
        # and words recur: looking them up is several times as fast as the library.
        split = [text.split(" ") if _has_plain_spaces(text) else [""] for text in texts]
        counts = np.fromiter(map(len, split), np.int64, len(split))
        with _LEARNING:
            found = map(self._words.__getitem__, chain.from_iterable(split))  # numbers new ones
            numbers = np.fromiter(found, np.int64, int(counts.sum()))
            pieces = self._learn_words()
        firsts = np.cumsum(counts) - counts
        others = [n for n, words in enumerate(split) if words == [""]]
        if others:  # whole texts behind the words, not to be kept
            numbers[firsts[others]] = len(pieces) + np.arange(len(others))
            pieces = pieces.and_(self._encode_all([texts[n] for n in others]))
        ids, sizes = pieces.gather(numbers)
        return ids, np.add.reduceat(sizes, firsts)

    def _learn_words(self) -> _Pieces:
        """The pieces of all words that have a number."""
        pieces, words = self._pieces, self._words
        if new := len(words) - len(pieces):
            latest = list(islice(reversed(words), new))[::-1]
            pieces = pieces.and_(self._encode_all(latest))
        self._pieces = pieces
        if len(words) > _MOST_WORDS:  # what was met first is mostly what is frequent
            self._keep_words(_MOST_WORDS // 2)
        return pieces

    def _keep_words(self, most: int) -> None:
        kept = islice(self._words.items(), most)
        self._words = defaultdict(count(most).__next__, kept)
        self._pieces = self._pieces.first(most)

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        batch = self._library.encode_batch_fast(texts, add_special_tokens=False) if texts else []
        return [encoding.ids for encoding in batch]

    def _join(self, ids: list[int]) -> str:
        text: str = self._library.decode(ids, skip_special_tokens=False)
        return text


class BpeTokenizer(LibraryTokenizer):
    """Byte-pair encoding over bytes (Sennrich et al. 2016; GPT-2's byte level).

    Raw text, lossless: any text comes back as it was, unseen characters and runs of spaces
    included. A space is put before the text, so that a word has the same ids wherever it stands,
    and taken off again by ``decode``. No merge makes a special entry: GPT-2's pattern cuts
    between its marks and its letters.
    """

    kind = "bpe"

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        from tokenizers import Tokenizer as Library
        from tokenizers.models import BPE
        from tokenizers.trainers import BpeTrainer

        size = settings.size(len(SPECIALS) + len(BYTES))
        seed = {entry: i for i, entry in enumerate((*SPECIALS, *BYTES))}
        blank = _byte_level(settings, {"type": "BPE", "vocab": seed, "merges": []})
        library = Library.from_str(json.dumps(blank))
        library.model = BPE()
        # Ties between pairs are broken by their ids, and ids follow the sorted alphabet: without
        # a continuing-subword prefix the library's BPE learns the same merges every time.
        trainer = BpeTrainer(
            vocab_size=size - len(settings.extra),
            min_frequency=MIN_COUNT,
            special_tokens=list(SPECIALS),
            initial_alphabet=list(BYTES),
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer=trainer)
        model = json.loads(library.to_str())["model"]
        vocab = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
        vocab |= {entry: len(vocab) + n for n, entry in enumerate(settings.extra)}
        merges = [list(m) if isinstance(m, list) else m.split(" ") for m in model["merges"]]
        return cls(_byte_level(settings, {"type": "BPE", "vocab": vocab, "merges": merges}))

    def _label(self, i: int) -> str:
        return as_text(self.vocabulary[i])


def _byte_level(settings: TokenizerSettings, model: dict[str, Any]) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return define(
        settings,
        model,
        normalizers=[{"type": "Prepend", "prepend": " "}],
        pre_tokenizer={**level, "use_regex": True},
        decoder={"type": "Sequence", "decoders": [{**level, "use_regex": True}, strip]},
    )
