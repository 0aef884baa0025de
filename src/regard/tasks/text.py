"""What tasks on text share: the tokenizers of a run, and what prepared data are known by."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard import registry
from regard.data import PreparedData, Tokenizer, load_tokenizer, train_tokenizer
from regard.data.readers.tables import is_table
from regard.recipe import Recipe

TOKENIZER = "tokenizer.json"


def stored(recipe: Recipe, run: Path, names: Sequence[str] = (TOKENIZER,)) -> list[Tokenizer]:
    """The tokenizers of the run, or of the run whose weights it starts from; each that is there.

    Those of another run are copied here.
    """
    start = recipe.model.get("start_from")
    if not (run / names[0]).exists() and start is not None:
        for name in names:
            if (Path(str(start)) / name).exists():
                shutil.copyfile(Path(str(start)) / name, run / name)
    return [load_tokenizer(run / name) for name in names if (run / name).exists()]


def learned(recipe: Recipe, texts: Iterable[str], extra: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer as the recipe wants it, learned from these texts, with extra special entries."""
    settings = recipe.tokenizer
    return train_tokenizer(
        settings.kind,
        texts,
        vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
        continuation=settings.continuation or None,
        extra=extra,
    )


def objective_of(recipe: Recipe) -> Any:
    """The recipe's loss; what it does not say is the objective's own default."""
    settings = recipe.objective
    smoothing = settings.label_smoothing
    given = {} if smoothing is None else {"label_smoothing": smoothing}
    return registry.kind("objectives", settings.kind)(**given, **settings.own)


def with_columns(recipe: Recipe, data: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Data of a table, with the recipe's own names of its columns where they are not given."""
    if data is None or "file" not in data or not is_table(data["file"]):
        return data
    splits = (recipe.data.test, recipe.data.train)
    named = next((split.fields for split in splits if split is not None and split.fields), None)
    given = data.get("fields") or {}
    return {**data, "fields": {**named, **given}} if named and isinstance(given, Mapping) else data


def digest(data: PreparedData) -> str:
    """What batches follow from: every id and every length."""
    found = hashlib.blake2b(digest_size=16)
    for name in data.columns:
        column = data.column(name)
        for part in (column.ids, column.offsets):
            found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()
