"""What every kind of tokenizer is: text to ids and back, in one JSON file."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from regard import registry
from regard.errors import DataError, RecipeError
from regard.files import write_text

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
"""The special tokens; their places are their ids."""

MASK = "<mask>"
"""The extra entry that hides a token."""

FORMAT = 1
SPACE = "▁"
_EXTRA = re.compile(r"<(?!0x)(?=[^<>]*[A-Za-z0-9])[!-;=?-~]+>")


@dataclass(frozen=True)
class TokenizerSettings:
    """What decides a tokenizer beside the text it is trained on.

    Attributes:
        kind: ``bpe``, ``unigram``, ``wordpiece``, ``bytes``, ``chars`` or ``words``.
        vocab_size: entries at most, the special ones included; None: each kind's own default
            (8,000 for the learned kinds, every type met for ``chars`` and ``words``).
        lowercase: text is lower-cased before anything else.
        continuation: (``words`` only) the mark of a segment that goes on in the next, such as
            ``"@@"``; ``decode`` undoes it.
        extra: special entries beside the four, such as ``"<mask>"``: the last ids of the
            vocabulary, of whose size they are part.

    Raises:
        RecipeError: an extra entry that is not ``<name>``, or is there already.
    """

    kind: str = "bpe"
    vocab_size: int | None = None
    lowercase: bool = False
    continuation: str | None = None
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for n, entry in enumerate(self.extra):
            if not _EXTRA.fullmatch(entry) or entry in (*SPECIALS, *self.extra[:n]):
                raise RecipeError(
                    f"{entry!r} cannot be a special entry, or is one twice",
                    where="tokenizer",
                    hint="write each as <name>, in ASCII, without white space: <mask>, <|user|>",
                )

    def size(self, smallest: int, default: int = 8_000) -> int:
        """The vocabulary size to learn.

        Raises:
            RecipeError: it is smaller than ``smallest`` and the extra entries, which the kind
                needs.
        """
        smallest += len(self.extra)
        size = default if self.vocab_size is None else self.vocab_size
        if size < smallest:
            raise RecipeError(
                f"a vocabulary of {size} is too small for {self.kind!r}: it needs {smallest}",
                where="tokenizer.vocab_size",
            )
        return size


class Tokenizer(ABC):
    """Text to ids and back. Special tokens are never made from text, whatever it holds.

    Args:
        definition: the JSON object of the file, in the form of the ``tokenizers`` library, with
            regard's own part under ``model.regard``.
    """

    kind: ClassVar[str]
    pad_id: int = 0
    start_id: int = 1
    end_id: int = 2
    unk_id: int = 3
    prefix_ids: tuple[int, ...] = ()  # what a language model reads before every text
    pair_separators: int = 1  # end tokens between two texts that are read together

    def __init__(self, definition: dict[str, Any]) -> None:
        self.definition = definition

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        """A tokenizer of this kind learned from texts; the same texts give the same file."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens around them."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text: equal to ``encode`` on each, faster."""
        return [self.encode(text) for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """From where to where each of ``encode``'s pieces reaches, without white space at its ends.

        Pieces that share a character (its bytes) reach over all of it.
        """
        spans = []
        for start, end in self._library.encode(text, add_special_tokens=False).offsets:
            part = text[start:end]
            kept = part.strip()
            start = start + len(part) - len(part.lstrip()) if kept else end
            spans.append((start, start + len(kept)))
        return spans

    @cached_property
    def _library(self) -> Any:
        """The library's tokenizer of the same definition.

        Raises:
            ValueError: it cannot read it.
        """
        from tokenizers import Tokenizer as Library

        try:
            return Library.from_str(json.dumps(self.definition))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from error

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; an unknown stays ``<unk>``, the other special entries are skipped."""
        return self._join([int(i) for i in ids if self.end_id < i < self._text_end])

    def decode_batch(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """``decode`` of each row."""
        return [self.decode(row) for row in rows]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """A readable label for each id, specials included, for pictures and listings."""
        return [
            visible(self._label(i)) if len(SPECIALS) <= i < self._text_end else self.vocabulary[i]
            for i in map(int, ids)
        ]

    @property
    def vocab_size(self) -> int:
        """The number of ids, specials included."""
        return len(self.vocabulary)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The entry of each id, as it stands in the file."""
        vocab = self.definition["model"]["vocab"]
        if isinstance(vocab, dict):
            return tuple(sorted(vocab, key=vocab.__getitem__))
        return tuple(piece for piece, _ in vocab)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    def id_of(self, entry: str) -> int | None:
        """The id of a vocabulary entry, or None."""
        return self._ids.get(entry)

    @property
    def extra(self) -> tuple[str, ...]:
        """The special entries beside the four."""
        return tuple(self.definition["model"]["regard"].get("extra", ()))

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of what is no text: the four, as far as there are such, and the extra entries."""
        extra = (self._ids[entry] for entry in self.extra)
        return frozenset((self.pad_id, self.start_id, self.end_id, self.unk_id, *extra))

    @cached_property
    def _text_end(self) -> int:
        """The first of the extra entries, which stand last."""
        return self.vocab_size - len(self.extra)

    @property
    def mask_id(self) -> int | None:
        """The id of ``<mask>``, where it is a special entry."""
        return self.id_of(MASK) if MASK in self.extra else None

    @property
    def lowercase(self) -> bool:
        """Whether text is lower-cased."""
        return bool(self.definition["model"]["regard"]["lowercase"])

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(self.definition, ensure_ascii=False, indent=1) + "\n"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes: equal fingerprints, equal ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the one JSON file; it replaces an older one at once or not at all.

        Raises:
            DataError: it cannot be written.
        """
        try:
            write_text(Path(path), self.to_json())
        except OSError as error:
            raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from error

    @staticmethod
    def load(path: str | Path) -> Tokenizer:
        """The tokenizer in a file, of whichever kind.

        Raises:
            DataError: the file is missing, damaged or not one of regard's.
        """
        return load_tokenizer(path)

    @abstractmethod
    def _join(self, ids: list[int]) -> str:
        """The text of ids that are no special entries but ``<unk>``."""

    def _label(self, i: int) -> str:
        return self.vocabulary[i]


def visible(label: str) -> str:
    """A label with spaces as ``▁`` and what cannot be printed as its code point."""
    label = label.replace(" ", SPACE)
    if label.isprintable():
        return label
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in label)


def lower(text: str) -> str:
    """Lower-cased letter by letter, as the library does it: no final sigma by context."""
    return text.lower() if "Σ" not in text else "".join(map(str.lower, text))


def define(
    settings: TokenizerSettings,
    model: dict[str, Any],
    *,
    normalizers: Sequence[dict[str, Any]] = (),
    pre_tokenizer: dict[str, Any] | None,
    decoder: dict[str, Any] | None,
) -> dict[str, Any]:
    """The JSON object of a tokenizer's file.

    The special tokens are entries of the vocabulary, not "added tokens": the library would look
    for those in the text, and a text that happens to hold ``</s>`` would end there.
    """
    chain = [{"type": "Lowercase"}, *normalizers] if settings.lowercase else list(normalizers)
    own = {
        "format": FORMAT,
        "kind": settings.kind,
        "lowercase": settings.lowercase,
        "continuation": settings.continuation,
        "specials": dict(zip(("pad", "start", "end", "unk"), SPECIALS, strict=True)),
        "extra": list(settings.extra),
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": chain} if chain else None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {"type": model["type"], "regard": own} | model,
    }


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    lowercase: bool = False,
    continuation: str | None = None,
    extra: Sequence[str] = (),
) -> Tokenizer:
    """Learn a tokenizer; see ``TokenizerSettings`` for the arguments.

    Raises:
        RegardError: an unknown kind, a setting that it lacks, or a vocabulary too small for it.
        DataError: there is no text.
    """
    settings = TokenizerSettings(kind, vocab_size, lowercase, continuation, tuple(extra))
    cls = registry.kind("tokenizers", kind)
    if continuation is not None and kind != "words":
        raise RecipeError(
            f"the kind {kind!r} has no continuation mark",
            where="tokenizer.continuation",
            hint="leave the key out, or use kind = 'words' on text that is segmented already",
        )
    tokenizer = cls.train(_some(texts), settings)
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file; ``Tokenizer.load`` says more."""
    try:
        definition = json.loads(Path(path).read_text(encoding="utf-8"))
        own = definition["model"]["regard"]
        kind, version = str(own["kind"]), int(own["format"])
    except OSError as error:
        raise DataError(
            f"the tokenizer cannot be read: {error.strerror}", where=str(path)
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "this is not a tokenizer file of regard, or it is damaged", where=str(path)
        ) from error
    if version > FORMAT:
        raise DataError(
            f"the file has format {version}, this regard knows up to {FORMAT}",
            where=str(path),
            hint="install a newer regard",
        )
    cls = registry.kind("tokenizers", kind)
    try:
        tokenizer = cls(definition)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the tokenizer file is damaged: {error}", where=str(path)) from error
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


def _some(texts: Iterable[str]) -> Iterable[str]:
    empty = True
    for text in texts:
        empty = empty and not text.strip()
        yield text
    if empty:
        raise DataError("there is no text to learn a tokenizer from")
