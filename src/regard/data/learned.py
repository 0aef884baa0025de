"""Tokenizers that are learned once: kept beside what is prepared with them, for other runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from regard.data.prepare import file_digest, unwritable
from regard.data.readers import Source
from regard.data.tokenizers import Tokenizer, TokenizerSettings, load_tokenizer, train_tokenizer
from regard.data.tokenizers.base import FORMAT
from regard.errors import DataError


def learn_once(
    settings: TokenizerSettings,
    source: Source,
    texts: Iterable[str],
    *,
    cache: Path,
    what: str,
) -> Tokenizer:
    """A tokenizer learned from texts of a source: the cache's, or learned now and kept there.

    Args:
        settings: of the tokenizer.
        source: whose files, and the way that they are read, decide the texts.
        texts: read only where the cache has none.
        cache: directory of prepared data; made where it is missing.
        what: says which of the source's texts they are.

    Raises:
        DataError: the cache cannot be written; the source's own errors.
    """
    decisive = {
        "format": FORMAT,
        "library": version("tokenizers"),
        "files": [file_digest(path) for path in source.files],
        "source": dict(source.identity),
        "texts": what,
        "settings": asdict(settings),
    }
    text = json.dumps(decisive, sort_keys=True, ensure_ascii=False)
    path = cache / f"tokenizer-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:32]}.json"
    with contextlib.suppress(DataError):  # missing, or damaged
        return load_tokenizer(path)
    made = train_tokenizer(
        settings.kind,
        texts,
        vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
        continuation=settings.continuation,
        extra=settings.extra,
    )
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(cache, error) from error
    made.save(path)
    return made
