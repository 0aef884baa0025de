"""WordPiece (Schuster and Nakajima 2012; BERT's greedy longest match), learned by merges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Self

from regard.data.tokenizers.base import SPECIALS, TokenizerSettings, define, lower
from regard.data.tokenizers.library import MIN_COUNT, LibraryTokenizer, spelled
from regard.data.tokenizers.merges import learn_merges

INSIDE = "##"
_LONGEST_WORD = 200
_UNITS = re.compile(r"\w+|[^\w\s]")


class WordPieceTokenizer(LibraryTokenizer):
    """Words split at white space, each into the longest known pieces; ``##`` inside a word.

    As in BERT no piece crosses the edge of a punctuation mark; otherwise than in BERT a mark that
    touches a word is a piece inside that word (``##.``), so that ``decode`` puts it back there.
    The library's own trainer gives other pieces at each call (it numbers ``##`` characters in
    hash order), so the merges are learned here, ties broken by the pieces' order.
    """

    kind = "wordpiece"

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        size = settings.size(len(SPECIALS) + 2) - len(settings.extra)
        cut = spelled(settings)
        parts = re.compile(rf"{cut}|(?:(?!{cut})\S)+")
        words: Counter[str] = Counter()
        for text in texts:
            words.update(parts.findall(lower(text) if settings.lowercase else text))
        units: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            for unit in _pieces(word):
                units[unit] += count
        letters: Counter[str] = Counter()
        for unit, count in units.items():
            for symbol in unit:
                letters[symbol] += count
        kept = sorted(letters, key=lambda symbol: (-letters[symbol], symbol))
        alphabet = sorted(kept[: max((size - len(SPECIALS)) // 2, 1)])
        known = set(alphabet)
        usable = {unit: n for unit, n in units.items() if known.issuperset(unit)}
        merged = learn_merges(
            usable,
            alphabet,
            join=lambda left, right: left + right[len(INSIDE) :],
            limit=size - len(SPECIALS) - len(alphabet),
            min_count=MIN_COUNT,
        )
        entries = (*SPECIALS, *alphabet, *merged, *settings.extra)
        vocab = {entry: i for i, entry in enumerate(entries)}
        model = {
            "type": "WordPiece",
            "unk_token": "<unk>",
            "continuing_subword_prefix": INSIDE,
            "max_input_chars_per_word": _LONGEST_WORD,
            "vocab": vocab,
        }
        alone = {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated"}
        split = [{"type": "WhitespaceSplit"}, {**alone, "invert": False}]
        return cls(
            define(
                settings,
                model,
                pre_tokenizer={"type": "Sequence", "pretokenizers": split},
                decoder={"type": "WordPiece", "prefix": INSIDE, "cleanup": False},
            )
        )


def _pieces(word: str) -> Iterator[tuple[str, ...]]:
    """The symbols of a word, cut where punctuation begins and ends."""
    for match in _UNITS.finditer(word):
        first = match.start() == 0
        yield tuple(
            character if first and i == 0 else INSIDE + character
            for i, character in enumerate(match.group())
        )
