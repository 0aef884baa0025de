"""The unigram language model tokenizer (Kudo 2018), as SentencePiece made it known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Self

from regard.data.tokenizers.base import SPACE, SPECIALS, TokenizerSettings, define, lower
from regard.data.tokenizers.library import LibraryTokenizer, spelled
from regard.data.tokenizers.unigram_training import learn_pieces

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class UnigramTokenizer(LibraryTokenizer):
    """The most probable segmentation under one probability a piece; spaces are written ``▁``.

    Characters without a piece are spelled in bytes, so every text comes back. The library's own
    trainer sums floats in hash order and gives other pieces at each call, so the pieces are
    learned here.
    """

    kind = "unigram"

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        fixed = len(SPECIALS) + len(BYTE_PIECES)
        size = settings.size(fixed + 2) - len(settings.extra)
        cut = spelled(settings)
        parts = re.compile(word_pattern(cut))
        words: Counter[str] = Counter()
        for text in texts:
            text = lower(text) if settings.lowercase else text
            words.update(parts.findall((" " + text).replace(" ", SPACE)))
        pieces = learn_pieces(words, size - fixed)
        # What special and byte pieces score is without meaning: no text can spell them.
        vocab = [[entry, 0.0] for entry in (*SPECIALS, *BYTE_PIECES)]
        vocab += [[piece, score] for piece, score in pieces]
        vocab += [[entry, 0.0] for entry in settings.extra]
        model = {"type": "Unigram", "unk_id": cls.unk_id, "byte_fallback": True, "vocab": vocab}
        space = {"type": "Split", "pattern": {"String": SPACE}, "behavior": "MergedWithNext"}
        alone = {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated"}
        split = [{**space, "invert": False}, {**alone, "invert": False}]
        joined = [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]
        return cls(
            define(
                settings,
                model,
                normalizers=[
                    {"type": "Prepend", "prepend": SPACE},
                    {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
                ],
                pre_tokenizer={"type": "Sequence", "pretokenizers": split},
                decoder={"type": "Sequence", "decoders": joined},
            )
        )


def word_pattern(cut: str) -> str:
    """Pattern of a word with its space, ended where ``cut`` (see `spelled`) begins."""
    return rf"{cut}|{SPACE}(?:(?!{cut})[^{SPACE}])*|(?:(?!{cut})[^{SPACE}])+"
