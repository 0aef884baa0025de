"""Tokenizers of the field: another's definition with its own special ids, in regard's one file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from regard.data.tokenizers.base import FORMAT, Tokenizer, TokenizerSettings, visible
from regard.data.tokenizers.bytelevel import as_text
from regard.data.tokenizers.plain import join_segments
from regard.errors import InputError, RecipeError

NO_ID = -1
"""The id of a special token that a vocabulary lacks: no text and no model gives it."""

LANGUAGE = re.compile(r">>\S+?<<")
"""How a text for one of Marian's many-language models begins."""


class ImportedTokenizer(Tokenizer):
    """The field's tokenizer, run by the ``tokenizers`` library from its own definition.

    Its special ids are its own, so they are attributes of the object. A vocabulary without a start
    or a padding token has the end's id there; without end, unknown or mask it is `NO_ID` or None.
    As with every kind here, a text that spells a special token is text. A definition without a
    vocabulary knows the special ids alone: text cannot be read or written then.

    Where ``entries`` are given, they are the vocabulary, and ``places`` says at which of them each
    of the definition's own ids stands: Marian's two segmentations share one vocabulary so.
    """

    kind = "imported"

    def __init__(self, definition: dict[str, Any]) -> None:
        super().__init__(definition)
        own = definition["model"]["regard"]
        ids: Mapping[str, int | None] = own["ids"]
        self.end_id = _or(ids.get("end"), NO_ID)
        self.start_id = _or(ids.get("start"), self.end_id)
        self.pad_id = _or(ids.get("pad"), self.end_id)
        self.unk_id = _or(ids.get("unk"), NO_ID)
        self._mask_id = ids.get("mask")
        self.pair_separators = int(own.get("pair_separators", 1))
        self.prefix_ids = tuple(own.get("prefix", ()))
        self._places: Sequence[int] | None = own.get("places")
        self._skipped = {self.pad_id, self.start_id, self.end_id}
        self._library: Any = None
        if "vocab" in definition["model"]:
            self._library = _library(definition)

    @property
    def mask_id(self) -> int | None:
        """The id of what hides a token, where the vocabulary has it."""
        return self._mask_id

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of what is no text: the definition's added tokens and those with a role."""
        found = self._specials if self._mask_id is None else {*self._specials, self._mask_id}
        return frozenset(i for i in found if 0 <= i < self.vocab_size)

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        raise RecipeError(
            "an imported tokenizer is not learned: it comes with its weights",
            where="tokenizer.kind",
            hint="name the imported run: model.start_from = RUN",
        )

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if self._library is None:
            raise _no_text()
        if self._places is None:
            found = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
            return [list(one.ids) for one in found]
        split = [self._language(text) for text in texts]
        found = self._library.encode_batch([rest for _, rest in split], add_special_tokens=False)
        return [[*code, *self._placed(one)] for (code, _), one in zip(split, found, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        if self._library is None:
            raise _no_text()
        return self._join([int(i) for i in ids if i >= 0 and i not in self._skipped])

    def tokens(self, ids: Iterable[int]) -> list[str]:
        return [visible(self._label(int(i))) for i in ids]

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The entry of each id; empty where the definition leaves one out."""
        own = self.definition["model"]["regard"]
        if "entries" in own:
            return tuple(own["entries"])
        if self._library is None:
            return ("",) * int(own["vocab_size"])
        entries = self._library.get_vocab(with_added_tokens=True)
        found = [""] * (max(entries.values(), default=-1) + 1)
        for entry, i in entries.items():
            found[i] = entry
        return tuple(found)

    def _placed(self, found: Any) -> list[int]:
        """Ids among the entries; what this segmentation does not know may be another's entry."""
        assert self._places is not None
        ids = [self._places[i] for i in found.ids]
        if self.unk_id in ids:
            pairs = zip(ids, found.tokens, strict=True)
            return [self._ids.get(token, i) if i == self.unk_id else i for i, token in pairs]
        return ids

    def _language(self, text: str) -> tuple[list[int], str]:
        """The id of the language that a text asks for by ``>>de<<``, and the rest."""
        match = LANGUAGE.match(text)
        if match is None:
            return [], text
        return [self._ids.get(match[0], self.unk_id)], text[match.end() :]

    def _join(self, ids: list[int]) -> str:
        if self._places is None:
            return str(self._library.decode(ids, skip_special_tokens=False))
        entries = [self._label(i) for i in ids]
        mark = self.definition["model"]["regard"].get("continuation")
        decoder = self._library.decoder
        return join_segments(entries, mark) if decoder is None else str(decoder.decode(entries))

    def _label(self, i: int) -> str:
        entry = self.vocabulary[i] if 0 <= i < len(self.vocabulary) else ""
        if not entry:
            return f"<{i}>"
        return as_text(entry) if self._byte_level and i not in self._specials else entry

    @cached_property
    def _byte_level(self) -> bool:
        return any(part.get("type") == "ByteLevel" for part in _parts(self.definition, "decoder"))

    @cached_property
    def _specials(self) -> set[int]:
        added = {one["id"] for one in self.definition.get("added_tokens", ())}
        return added | self._skipped | {self.unk_id}


def imported(
    definition: Mapping[str, Any],
    ids: Mapping[str, int | None],
    *,
    prefix: Sequence[int] = (),
    pair_separators: int = 1,
    continuation: str | None = None,
    vocab_size: int | None = None,
    entries: Sequence[str] | None = None,
    places: Sequence[int] | None = None,
) -> ImportedTokenizer:
    """A tokenizer from a definition of the ``tokenizers`` library.

    Args:
        definition: the library's JSON object; empty where there is none.
        ids: of ``pad``, ``start``, ``end``, ``unk`` and ``mask``; None or left out where missing.
        prefix: ids that a language model reads before every text.
        pair_separators: end tokens between two texts that are read together.
        continuation: see `TokenizerSettings`.
        vocab_size: number of ids, where there is no definition.
        entries, places: another vocabulary than the definition's; see `ImportedTokenizer`.
    """
    own: dict[str, Any] = {
        "format": FORMAT,
        "kind": ImportedTokenizer.kind,
        "lowercase": any(
            part.get("type") == "Lowercase" or part.get("lowercase") is True
            for part in _parts(definition, "normalizer")
        ),
        "continuation": continuation,
        "ids": dict(ids),
        "prefix": list(prefix),
        "pair_separators": pair_separators,
        "vocab_size": vocab_size,
        "entries": entries,
        "places": places,
    }
    own = {key: value for key, value in own.items() if value is not None}
    model = {key: value for key, value in definition.get("model", {}).items() if key != "regard"}
    whole = {**definition, "truncation": None, "padding": None}
    return ImportedTokenizer({**whole, "model": {"regard": own, **model}})


def _library(definition: Mapping[str, Any]) -> Any:
    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Library

    try:
        library = Library.from_str(json.dumps(definition))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(str(error)) from error
    library.encode_special_tokens = True  # a text's own "</s>" is text
    if definition["model"].get("type") == "BPE":
        return library  # no merge makes one
    specials = [one["content"] for one in definition.get("added_tokens", ()) if one["special"]]
    spelled = [rf"{re.escape(one[:1])}(?={re.escape(one[1:])})" for one in specials]
    if definition["model"].get("byte_fallback"):
        spelled.append("<(?=0x[0-9A-F]{2}>)")
    if spelled:  # nor is it an entry of the model: its first character stands alone
        split = pre_tokenizers.Split(Regex("|".join(spelled)), "isolated")
        before = [] if library.pre_tokenizer is None else [library.pre_tokenizer]
        library.pre_tokenizer = pre_tokenizers.Sequence([*before, split])
    return library


def _parts(definition: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The normalizers, or decoders, of a definition one by one."""
    whole = definition.get(name) or {}
    inner = next((whole[key] for key in (f"{name}s", "decoders") if key in whole), None)
    return [whole] if inner is None else list(inner)


def _or(found: int | None, instead: int) -> int:
    return instead if found is None else found


def _no_text() -> InputError:
    return InputError(
        "this run was imported without a tokenizer: it reads and writes ids alone",
        hint="import it anew with tokenizer files beside the weights, or call its model with ids",
    )
