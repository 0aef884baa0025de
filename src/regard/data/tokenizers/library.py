"""Kinds whose encoding runs in the ``tokenizers`` library: byte-level BPE, and what they share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np

from regard.data.prepared import id_type
from regard.data.tokenizers.base import SPECIALS, Tokenizer, TokenizerSettings, define
from regard.data.tokenizers.bytelevel import BYTES, as_text

MIN_COUNT = 2
"""A merge or a piece that was met once only is not learned."""

_MOST_WORDS = 300_000


def spelled(settings: TokenizerSettings) -> str:
    """Pattern of the ``<`` of a text's own ``<s>`` or ``<0x0A>``, which must not be the token."""
    names = "|".join(re.escape(entry[1:-1]) for entry in (*SPECIALS, *settings.extra))
    return rf"<(?=(?:{names}|0x[0-9A-F]{{2}})>)"


def _has_plain_spaces(text: str) -> bool:
    """Whether the only white space is single spaces between words."""
    # What is printable has no white space but U+0020.
    return bool(text) and text.isprintable() and "  " not in text and text == text.strip(" ")


class LibraryTokenizer(Tokenizer):
    """Encodes and decodes with the library, from the same definition that the file holds."""

    def __init__(self, definition: dict[str, Any]) -> None:
        super().__init__(definition)
        assert self._library is not None  # a damaged file shows here, not at the first text
        self._words: dict[str, bytes] = {}
        self._type = id_type(self.vocab_size)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [np.frombuffer(row, self._type).tolist() for row in self.encode_packed(texts)]

    def encode_packed(self, texts: Sequence[str]) -> list[bytes]:
        """``encode_batch`` as prepared data hold it: the bytes of each text's ids."""
        # All kinds here cut before each space and encode the parts alone, so a text is its words,
        # and words recur: looking them up is several times as fast as the library.
        rows, words = [b""] * len(texts), self._words
        late, others = list[int](), list[int]()
        for n, text in enumerate(texts):
            if not _has_plain_spaces(text):
                others.append(n)
                continue
            try:
                rows[n] = b"".join(map(words.__getitem__, text.split(" ")))
            except KeyError:
                late.append(n)
        self._learn_words({word for n in late for word in texts[n].split(" ")})
        for n in late:
            rows[n] = b"".join(map(self._words.__getitem__, texts[n].split(" ")))
        for n, row in zip(others, self._encode_all([texts[n] for n in others]), strict=True):
            rows[n] = row
        return rows

    def _learn_words(self, wanted: set[str]) -> None:
        if len(self._words) > _MOST_WORDS:  # what was met first is mostly what is frequent
            self._words = dict(islice(self._words.items(), _MOST_WORDS // 2))
        missing = sorted(word for word in wanted if word not in self._words)
        self._words.update(zip(missing, self._encode_all(missing), strict=True))

    def _encode_all(self, texts: list[str]) -> list[bytes]:
        batch = self._library.encode_batch_fast(texts, add_special_tokens=False) if texts else []
        return [np.array(encoding.ids, self._type).tobytes() for encoding in batch]

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
