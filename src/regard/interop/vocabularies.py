"""The field's tokenizer files: which there are in a directory, as regard's imported tokenizers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regard.data.corruption import GAPS, gap
from regard.data.tokenizers.base import Tokenizer
from regard.data.tokenizers.imported import ImportedTokenizer, imported
from regard.errors import DataError, InputError
from regard.interop import sentencepiece
from regard.interop.files import read_json

TOKENIZER, SOURCE = "tokenizer.json", "tokenizer.source.json"

ROLES = {
    "start": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "pad": ("pad_token",),
    "unk": ("unk_token",),
    "mask": ("mask_token",),
}
"""What each special id is called there; an encoder's texts stand between [CLS] and [SEP]."""

_BERT = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_GPT2 = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_MARIAN = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
USUAL = {
    "bert": _BERT,
    "distilbert": _BERT,
    "roberta": _ROBERTA,
    "gpt2": _GPT2,
    "marian": _MARIAN,
    "t5": _MARIAN,
}
"""Special tokens of a model type where no file names them."""


_GAP = re.compile(r"<extra_id_\d+>")


@dataclass(frozen=True)
class Vocabulary:
    """What a directory says beside the segmentation itself.

    Attributes:
        directory: of the files.
        model_type: as in ``config.json``, whose content ``config`` is.
        settings: of ``tokenizer_config.json``.
        tokens: the special tokens by their names there.
        decoder: whether the model is one, whose texts may begin with a token of their own.
        size: entries that the model has; of its source alone ``source_size``.
    """

    directory: Path
    model_type: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    tokens: Mapping[str, str]
    decoder: bool
    size: int
    source_size: int | None = None

    def make(
        self, definition: dict[str, Any], ids: Mapping[str, int | None] | None = None
    ) -> ImportedTokenizer:
        """The tokenizer of a definition; ``ids`` are those that the definition itself knows."""
        entries = imported(definition, {}).id_of if definition else _nothing
        found = {role: entries(token) for role, token in self._named().items()}
        whole = {**(ids or {}), **{k: v for k, v in found.items() if v is not None}}
        whole = {**self._configured(), **{k: v for k, v in whole.items() if v is not None}}
        made = imported(
            definition,
            whole,
            pair_separators=2 if self.model_type == "roberta" else 1,
            vocab_size=None if definition else self.size,
            prefix=self._prefix(definition, whole),
        )
        return self.check(made)

    def check(self, made: ImportedTokenizer) -> ImportedTokenizer:
        """The same, if the model knows all its ids."""
        if made.vocab_size > self.size:
            raise InputError(
                f"the tokenizer has {made.vocab_size:,} entries, the model {self.size:,}",
                where=str(self.directory),
            )
        return made

    @property
    def source(self) -> Vocabulary:
        """The same with the source's size."""
        return replace(self, size=self.source_size or self.size)

    def _named(self) -> dict[str, str]:
        """The special token of each role, where one is named."""
        found: dict[str, str] = {}
        for role, names in ROLES.items():
            for name in reversed(names) if self.decoder else names:
                if name in self.tokens:
                    found.setdefault(role, self.tokens[name])
        return found

    def _configured(self) -> dict[str, int]:
        """The special ids that ``config.json`` names."""
        config = {key: value for key, value in self.config.items() if value is not None}
        start = config.get("decoder_start_token_id", config.get("bos_token_id"))
        end = config.get("eos_token_id")
        found = {
            "start": start,
            "end": end[0] if isinstance(end, list) and end else end,
            "pad": config.get("pad_token_id"),
        }
        return {
            key: value
            for key, value in found.items()
            if isinstance(value, int) and 0 <= value < self.size
        }

    def _prefix(self, definition: Mapping[str, Any], ids: Mapping[str, int | None]) -> list[int]:
        """What a decoder reads before every text."""
        if not self.decoder or not definition:
            return []
        wanted = self.settings.get("add_bos_token")
        if wanted is None and definition.get("post_processor") is not None:
            return _template(definition)
        if wanted is None:
            wanted = self.model_type == "llama"
        start = ids.get("start")
        return [start] if wanted and start is not None else []


def read_vocabulary(
    directory: Path,
    config: Mapping[str, Any],
    *,
    decoder: bool,
    size: int,
    source_size: int | None = None,
) -> tuple[dict[str, Tokenizer], str]:
    """The tokenizers of a directory by the file that a run keeps each in, and what they came from.

    Args:
        directory: with ``tokenizer.json``, or the older files of a model type.
        config: of ``config.json``.
        decoder: whether the model is one.
        size, source_size: entries that the model has; the second where its source has its own.

    Raises:
        InputError: a file cannot be used, or has more entries than the model.
    """
    settings = _optional(directory / "tokenizer_config.json")
    kind = str(config.get("model_type"))
    named = {**_optional(directory / "special_tokens_map.json"), **settings}
    tokens = {key: _content(value) for key, value in named.items() if key.endswith("_token")}
    tokens = {**USUAL.get(kind, {}), **{key: token for key, token in tokens.items() if token}}
    given = Vocabulary(directory, kind, config, settings, tokens, decoder, size, source_size)
    try:
        return _read(given)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"its tokenizer cannot be used: {error}", where=str(directory)) from error


def _read(given: Vocabulary) -> tuple[dict[str, Tokenizer], str]:
    def there(*names: str) -> bool:
        return all((given.directory / name).exists() for name in names)

    if there("source.spm", "target.spm", "vocab.json"):
        return marian(given), "source.spm, target.spm and vocab.json"
    if there("tokenizer.json"):
        found = read_json(given.directory / "tokenizer.json")
        return {TOKENIZER: given.make(_with_gaps(found))}, "tokenizer.json"
    if there("vocab.json", "merges.txt"):
        return {TOKENIZER: given.make(byte_level(given))}, "vocab.json and merges.txt"
    for name in ("tokenizer.model", "spiece.model"):
        if there(name):
            model = sentencepiece.read_model(given.directory / name)
            found = sentencepiece.definition(model)
            if given.model_type == "t5":
                found["added_tokens"] += _gaps(given, len(model.pieces))
            return {TOKENIZER: given.make(found, model.ids)}, name
    if there("vocab.txt"):
        return {TOKENIZER: given.make(wordpiece(given))}, "vocab.txt"
    both = {SOURCE: given.source.make({})} if given.source_size else {}
    return {TOKENIZER: given.make({}), **both}, ""


def _gaps(given: Vocabulary, first: int) -> list[dict[str, Any]]:
    """T5's sentinels, which stand behind the pieces in falling order."""
    count = int(given.settings.get("extra_ids", GAPS))
    names = reversed([gap(n) for n in range(count)])
    return [
        sentencepiece.added_token(first + n, name, special=False) for n, name in enumerate(names)
    ]


def _with_gaps(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition in which T5's sentinels are read where a text has them, and written."""
    added = [
        {**one, "special": False} if _GAP.fullmatch(one["content"]) else one
        for one in definition.get("added_tokens", ())
    ]
    return {**definition, "added_tokens": added}


def byte_level(given: Vocabulary) -> dict[str, Any]:
    """GPT-2's and RoBERTa's byte-level BPE, of ``vocab.json`` and ``merges.txt``."""
    vocab = read_json(given.directory / "vocab.json")
    text = (given.directory / "merges.txt").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    before = bool(given.settings.get("add_prefix_space", False))
    level = {"type": "ByteLevel", "add_prefix_space": before, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": _added(given, vocab),
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": True},
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": [line.split(" ") for line in lines]},
    }


def wordpiece(given: Vocabulary) -> dict[str, Any]:
    """BERT's WordPiece, of ``vocab.txt``."""
    lines = (given.directory / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n")
    vocab = {line: i for i, line in enumerate(lines.split("\n"))}
    settings = given.settings
    return {
        "version": "1.0",
        "added_tokens": _added(given, vocab),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": given.tokens["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def marian(given: Vocabulary) -> dict[str, Tokenizer]:
    """Marian's: SentencePiece cuts each side by itself, ``vocab.json`` numbers the pieces."""
    made: dict[str, Tokenizer] = {}
    for side, name in (("target", TOKENIZER), ("source", SOURCE)):
        model = sentencepiece.read_model(given.directory / f"{side}.spm")
        own = given.directory / f"{side}_vocab.json"  # where the two are apart
        path = own if own.exists() else given.directory / "vocab.json"
        vocab = read_json(path)
        entries = [""] * (max(vocab.values(), default=-1) + 1)
        for entry, number in vocab.items():
            entries[number] = entry
        unknown = vocab[given.tokens["unk_token"]]
        base = sentencepiece.definition(model)
        ids = {role: vocab.get(token) for role, token in given._named().items()}
        start = given.config.get("decoder_start_token_id", ids.get("pad"))
        places = [vocab.get(piece.text, unknown) for piece in model.pieces]
        whole = imported(base, {**ids, "start": start}, entries=entries, places=places)
        made[name] = (given if side == "target" else given.source).check(whole)
    return made


def subword_nmt(codes: Path, entries: Sequence[str], *, mark: str = "@@") -> ImportedTokenizer:
    """Raw text to the segments of subword-nmt (Sennrich et al., 2016) in a vocabulary.

    Args:
        codes: the file of merges that ``subword-nmt learn-bpe`` writes.
        entries: the vocabulary of segmented text, by id, such as a ``words`` tokenizer's.
        mark: how a segment ends that goes on in the next.

    Raises:
        InputError: the file cannot be read, or is of an older form.
    """
    try:
        lines = codes.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(codes)) from error
    if not lines or lines[0].strip() != "#version: 0.2":
        raise InputError("is no file of merges of subword-nmt 0.2 or newer", where=str(codes))
    end, merges = "</w>", [line.split(" ")[:2] for line in lines[1:] if line.strip()]
    pieces = dict.fromkeys(part for pair in merges for part in (*pair, "".join(pair)))
    letters = {letter for one in (*pieces, *entries) for letter in one.removesuffix(end)}
    for letter in sorted(letters):
        pieces |= {letter: None, letter + end: None}
    known = {entry: i for i, entry in enumerate(entries)}
    unknown = known["<unk>"]
    whole = ["<unk>", *pieces]
    names = [one.removesuffix(end) if one.endswith(end) else one + mark for one in whole]
    definition: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "end_of_word_suffix": end,
            "vocab": {one: i for i, one in enumerate(whole)},
            "merges": merges,
        },
    }
    ids = {"pad": Tokenizer.pad_id, "start": Tokenizer.start_id, "end": Tokenizer.end_id}
    return imported(
        definition,
        {**ids, "unk": unknown},
        continuation=mark,
        entries=entries,
        places=[known.get(name, unknown) for name in names],
    )


def _added(given: Vocabulary, vocab: Mapping[str, int]) -> list[dict[str, Any]]:
    more = _optional(given.directory / "added_tokens.json")
    tokens = dict.fromkeys(token for token in given.tokens.values() if token in vocab)
    known = [(vocab[token], token) for token in tokens]
    known += [(number, token) for token, number in more.items() if token not in tokens]
    return [sentencepiece.added_token(number, token) for number, token in sorted(known)]


def _template(definition: Mapping[str, Any]) -> list[int]:
    """The ids that a definition's template puts before a text."""
    from tokenizers import Tokenizer as Library

    library = Library.from_str(json.dumps(definition))
    plain, framed = (library.encode("a", add_special_tokens=on).ids for on in (False, True))
    place = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), 0)
    return list(framed[:place])


def _content(token: Any) -> str:
    return str(token.get("content") or "") if isinstance(token, Mapping) else str(token or "")


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _nothing(token: str) -> None:
    return None
