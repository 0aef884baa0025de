"""SentencePiece's models as definitions of the ``tokenizers`` library, read without its own.

A model is a protocol buffer (google/sentencepiece, ``sentencepiece_model.proto``); the few fields
that decide segmentation are read here: pieces with scores, the normalizer, the special ids.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regard.data.tokenizers.base import SPACE
from regard.errors import InputError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
_KINDS = {1: "Unigram", 2: "BPE"}
_LONGEST_VARINT = 70


@dataclass(frozen=True)
class Piece:
    """An entry of a vocabulary: its text, its score, and what it is for."""

    text: str
    score: float
    kind: int = NORMAL


@dataclass(frozen=True)
class Model:
    """What decides a segmentation.

    Attributes:
        pieces: by id.
        kind: ``Unigram`` or ``BPE``.
        charsmap: of the normalizer; empty where text stays as it is.
        prefix: whether a space is put before the text.
        squeeze: whether spaces at the ends go, and runs become one.
        byte_fallback: whether characters without a piece are spelled in bytes.
        ids: of the special tokens.
    """

    pieces: Sequence[Piece]
    kind: str = "Unigram"
    charsmap: bytes = b""
    prefix: bool = True
    squeeze: bool = True
    byte_fallback: bool = False
    ids: dict[str, int | None] = field(default_factory=dict)


def read_model(path: Path) -> Model:
    """A ``.model`` or ``.spm`` file.

    Raises:
        InputError: it cannot be read, or is no such model.
    """
    try:
        raw = path.read_bytes()
        whole = list(_fields(raw))
        trainer = dict(_fields(b"".join(_bytes(v) for n, v in whole if n == 2)))
        normalizer = dict(_fields(b"".join(_bytes(v) for n, v in whole if n == 3)))
        pieces = [_piece(_bytes(value)) for number, value in whole if number == 1]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, struct.error) as error:
        raise InputError(f"is no SentencePiece model: {error}", where=str(path)) from error
    kind = trainer.get(3, 1)
    if not pieces or kind not in _KINDS or trainer.get(24):
        raise InputError(
            "is no SentencePiece model that is supported",
            where=str(path),
            hint="known: unigram and bpe, with the space before a word",
        )
    numbers = {"unk": trainer.get(40, 0), "start": trainer.get(41, 1), "end": trainer.get(42, 2)}
    ids = {name: _known(value, len(pieces)) for name, value in numbers.items()}
    return Model(
        pieces,
        _KINDS[kind],
        _bytes(normalizer.get(2, b"")),
        prefix=bool(normalizer.get(3, 1)),
        squeeze=bool(normalizer.get(4, 1)),
        byte_fallback=bool(trainer.get(35, 0)),
        ids={**ids, "pad": _known(trainer.get(43, -1), len(pieces))},
    )


def definition(model: Model) -> dict[str, Any]:
    """The same segmentation as a definition of the ``tokenizers`` library."""
    normalizers: list[dict[str, Any]] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.squeeze:
        normalizers += [_replace({"Regex": r"\A +|[ ▁]+\z"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if model.prefix:
        normalizers.append({"type": "Prepend", "prepend": SPACE})
    normalizers.append(_replace({"String": " "}, SPACE))
    decoders: list[dict[str, Any]] = [_replace({"String": SPACE}, " ")]
    decoders += [{"type": "ByteFallback"}] * model.byte_fallback + [{"type": "Fuse"}]
    if model.prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    special = [(i, one) for i, one in enumerate(model.pieces) if one.kind in (UNKNOWN, CONTROL)]
    added = [added_token(i, one.text) for i, one in special]
    if model.kind == "BPE":
        pieces = enumerate(model.pieces)
        own = [(i, one) for i, one in pieces if one.kind == USER_DEFINED]
        added += [added_token(i, one.text, special=False) for i, one in own]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(model) if model.kind == "BPE" else _unigram(model),
    }


def added_token(number: int, content: str, *, special: bool = True) -> dict[str, Any]:
    """An entry of a definition's ``added_tokens``."""
    edges = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": content, **edges, "special": special}


def _unigram(model: Model) -> dict[str, Any]:
    normal = [one.score for one in model.pieces if one.kind == NORMAL]
    best = max(normal, default=0.0)

    def score(one: Piece) -> float:  # as the library of SentencePiece scores a user's own pieces
        return len(one.text.encode()) * best - 0.1 if one.kind == USER_DEFINED else one.score

    vocab = [[one.text, score(one)] for one in model.pieces]
    unknown = model.ids.get("unk")
    fallback = {"byte_fallback": model.byte_fallback}
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocab, **fallback}


def _bpe(model: Model) -> dict[str, Any]:
    """Merges are the pairs of pieces that make a piece, the best piece first."""
    vocab = {one.text: i for i, one in enumerate(model.pieces)}
    usable = {one.text: one.score for one in model.pieces if one.kind == NORMAL}
    merges = [
        (score, [text[:cut], text[cut:]])
        for text, score in usable.items()
        for cut in range(1, len(text))
        if text[:cut] in usable and text[cut:] in usable
    ]
    merges.sort(key=lambda pair: -pair[0])
    unknown = model.ids.get("unk")
    return {
        "type": "BPE",
        "unk_token": None if unknown is None else model.pieces[unknown].text,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "vocab": vocab,
        "merges": [pair for _, pair in merges],
    }


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _piece(raw: bytes) -> Piece:
    found = dict(_fields(raw))
    (score,) = struct.unpack("<f", _bytes(found.get(2, bytes(4))))
    return Piece(_bytes(found[1]).decode(), score, int(found.get(3, NORMAL)))


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message: integers, and bytes for everything else."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(raw, place)
            yield number, value - (1 << 64) if value >> 63 else value
            continue
        if wire == 2:
            size, place = _varint(raw, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + size > len(raw):
            raise ValueError("it is cut short")
        yield number, raw[place : place + size]
        place += size


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _LONGEST_VARINT, 7):
        if place >= len(raw):
            raise ValueError("it is cut short")
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is too long")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field has another type")
    return value


def _known(number: int, count: int) -> int | None:
    return number if 0 <= number < count else None
