"""A run's tokenizer as the field's files: its definition, and which tokens are special."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard import registry
from regard.data.tokenizers import Tokenizer
from regard.data.tokenizers.imported import ImportedTokenizer
from regard.interop.vocabularies import ROLES, SOURCE, TOKENIZER


def write_tokenizer(tokenizers: Mapping[str, Tokenizer], family: str, config: Any, to: Path) -> str:
    """The library's file, and which tokens are special; says what was done.

    Args:
        tokenizers: of the run, by its files.
        family: of the model, whose config is ``config``.
        to: the directory.
    """
    tokenizer = tokenizers.get(TOKENIZER)
    if tokenizer is None or "vocab" not in tokenizer.definition["model"]:
        return "the run has no tokenizer: ids alone"
    if SOURCE in tokenizers:
        return "tokenizers of two sides are no file there: copy those that came with the model"
    model = {k: v for k, v in tokenizer.definition["model"].items() if k != "regard"}
    encoder = registry.family(family).shape == "encoder"
    kinds = int(getattr(config, "num_segments", 0)) if encoder else 0
    framed = tokenizer.definition.get("post_processor") or _template(tokenizer, encoder, kinds)
    whole = {**tokenizer.definition, "post_processor": framed, "model": model}
    (to / TOKENIZER).write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    named = {
        names[0 if encoder else -1]: tokenizer.vocabulary[number]
        for role, names in ROLES.items()
        if 0 <= (number := _id(tokenizer, role)) < tokenizer.vocab_size
    }
    read = ["input_ids", *["token_type_ids"] * (kinds > 1), "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": read, **named}
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    (to / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return "tokenizer: tokenizer.json"


def special_ids(tokenizer: Tokenizer, family: str) -> dict[str, int]:
    """Special ids by their names in ``config.json``."""
    roles = {"bos_token_id": "start", "eos_token_id": "end", "pad_token_id": "pad"}
    if registry.family(family).shape == "encoder-decoder":
        roles = {"decoder_start_token_id": "start", **roles}
    found = {name: _id(tokenizer, role) for name, role in roles.items()}
    return {name: number for name, number in found.items() if number >= 0}


def _id(tokenizer: Tokenizer, role: str) -> int:
    """A special id, or -1; of an imported tokenizer none that only stands in for another."""
    if isinstance(tokenizer, ImportedTokenizer):
        number = tokenizer.definition["model"]["regard"]["ids"].get(role)
    else:
        number = getattr(tokenizer, f"{role}_id", None)
    return -1 if number is None else int(number)


def _template(tokenizer: Tokenizer, encoder: bool, kinds: int) -> dict[str, Any] | None:
    """What puts the special tokens around a text, or around two; None where there are none.

    Args:
        tokenizer: whose ids they are.
        encoder: its texts stand between start and end; a decoder's after its prefix.
        kinds: of segments that the model tells apart.
    """
    start = [tokenizer.start_id] if encoder else list(tokenizer.prefix_ids)
    end = [tokenizer.end_id] if encoder else []
    special = dict.fromkeys([*start, *end])
    if not special or not all(0 <= number < tokenizer.vocab_size for number in special):
        return None
    names = {number: tokenizer.vocabulary[number] for number in special}

    def tokens(numbers: Sequence[int], segment: int = 0) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": names[one], "type_id": segment}} for one in numbers]

    def text(name: str, segment: int = 0) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    second = int(kinds > 1)
    between = end * tokenizer.pair_separators
    return {
        "type": "TemplateProcessing",
        "single": [*tokens(start), text("A"), *tokens(end)],
        "pair": [
            *(*tokens(start), text("A"), *tokens(between)),
            *(text("B", second), *tokens(end, second)),
        ],
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]} for number, name in names.items()
        },
    }
