"""Tokenizers that learn no segmentation: bytes, characters, words."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Self

from regard.data.tokenizers.base import SPECIALS, Tokenizer, TokenizerSettings, define, lower
from regard.data.tokenizers.bytelevel import BYTE_OF, BYTES
from regard.errors import RecipeError


class BytesTokenizer(Tokenizer):
    """UTF-8 bytes: id = byte + 4, 260 ids and the extra ones, nothing learned, all comes back."""

    kind = "bytes"

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        entries = (*SPECIALS, *BYTES, *settings.extra)
        if settings.vocab_size not in (None, len(entries)):
            raise RecipeError(
                f"'bytes' has {len(entries)} entries, not {settings.vocab_size}",
                where="tokenizer.vocab_size",
                hint="leave the key out",
            )
        vocab = {entry: i for i, entry in enumerate(entries)}
        level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return cls(
            define(
                settings,
                {"type": "BPE", "vocab": vocab, "merges": []},
                pre_tokenizer={"type": "ByteLevel", **level},
                decoder={"type": "ByteLevel", **level},
            )
        )

    def encode(self, text: str) -> list[int]:
        data = (lower(text) if self.lowercase else text).encode("utf-8")
        return [byte + len(SPECIALS) for byte in data]

    def _join(self, ids: list[int]) -> str:
        parts = (
            SPECIALS[i].encode() if i < len(SPECIALS) else bytes((i - len(SPECIALS),)) for i in ids
        )
        return b"".join(parts).decode("utf-8", errors="replace")

    def _label(self, i: int) -> str:
        byte = BYTE_OF[self.vocabulary[i]]
        return chr(byte) if 0x20 <= byte < 0x7F else f"<0x{byte:02X}>"


class _Listed(Tokenizer):
    """Units that are looked up in a list: what is not in it is ``<unk>``."""

    def __init__(self, definition: dict[str, Any]) -> None:
        super().__init__(definition)
        # A unit of the text that is spelled like a special token is an unknown unit.
        ordinary = range(len(SPECIALS), self._text_end)
        self._units = {unit: i for unit, i in self._ids.items() if i in ordinary}

    @classmethod
    @abstractmethod
    def _split(cls, text: str) -> Iterable[str]:
        """The units of a text."""

    @classmethod
    def _count(cls, texts: Iterable[str], settings: TokenizerSettings) -> dict[str, int]:
        """Ids of the units met, the most frequent first, then in the order of code points."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls._split(lower(text) if settings.lowercase else text))
        special = (*SPECIALS, *settings.extra)
        for entry in special:
            counts.pop(entry, None)
        size = settings.size(len(SPECIALS) + 1, default=len(counts) + len(special))
        units = sorted(counts, key=lambda unit: (-counts[unit], unit))[: size - len(special)]
        return {entry: i for i, entry in enumerate((*SPECIALS, *units, *settings.extra))}

    def encode(self, text: str) -> list[int]:
        find, unknown = self._units.get, self.unk_id
        return [find(u, unknown) for u in self._split(lower(text) if self.lowercase else text)]

    def _entries(self, ids: list[int]) -> Iterator[str]:
        return (self.vocabulary[i] for i in ids)


class CharsTokenizer(_Listed):
    """Characters (code points) met in training, the most frequent ``vocab_size`` of them."""

    kind = "chars"

    @classmethod
    def _split(cls, text: str) -> Iterable[str]:
        return text

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        pattern = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated"}
        model = {"type": "WordLevel", "vocab": cls._count(texts, settings), "unk_token": "<unk>"}
        return cls(
            define(
                settings,
                model,
                pre_tokenizer={**pattern, "invert": False},
                decoder={"type": "Fuse"},
            )
        )

    def _join(self, ids: list[int]) -> str:
        return "".join(self._entries(ids))


class WordsTokenizer(_Listed):
    """Text that is segmented already, used as it is: split at white space, every type an entry.

    With ``continuation = "@@"`` (subword-nmt's mark) ``decode`` joins the segments of a word.
    The library, which can open the file too, joins with spaces alone.
    """

    kind = "words"

    @classmethod
    def _split(cls, text: str) -> Iterable[str]:
        return text.split()

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        model = {"type": "WordLevel", "vocab": cls._count(texts, settings), "unk_token": "<unk>"}
        return cls(define(settings, model, pre_tokenizer={"type": "WhitespaceSplit"}, decoder=None))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        # The library knows other white space than `split`: not U+001C to U+001F.
        return [word.span() for word in re.finditer(r"\S+", text)]

    def _join(self, ids: list[int]) -> str:
        mark = self.definition["model"]["regard"]["continuation"]
        return join_segments(self._entries(ids), mark)


def join_segments(segments: Iterable[str], mark: str | None) -> str:
    """Words from segments: one that ends in ``mark`` goes on in the next."""
    text = " ".join(segments)
    return (text + " ").replace(f"{mark} ", "").removesuffix(" ") if mark else text
