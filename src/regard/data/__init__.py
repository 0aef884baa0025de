"""Data: files to examples to ids to batches; it knows no model and no task.

Collating (``Pairs``) needs torch and is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regard.data.batching import BatchSettings, BatchSource, OverBudgetError, plan
from regard.data.blocks import BlockSettings, BlockSource
from regard.data.codecs import Codec
from regard.data.prepare import PrepareSettings, cache_key, prepare
from regard.data.prepared import PreparedData
from regard.data.readers import (
    Dialogues,
    Example,
    ParallelText,
    RunningText,
    Source,
    Table,
    Turn,
    open_source,
    read_lines,
)
from regard.data.tokenizers import (
    Tokenizer,
    TokenizerSettings,
    load_tokenizer,
    train_tokenizer,
)

if TYPE_CHECKING:
    from regard.data.collate import Pairs

__all__ = [
    "BatchSettings",
    "BatchSource",
    "BlockSettings",
    "BlockSource",
    "Codec",
    "Dialogues",
    "Example",
    "OverBudgetError",
    "Pairs",
    "ParallelText",
    "PrepareSettings",
    "PreparedData",
    "RunningText",
    "Source",
    "Table",
    "Tokenizer",
    "TokenizerSettings",
    "Turn",
    "cache_key",
    "load_tokenizer",
    "open_source",
    "plan",
    "prepare",
    "read_lines",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name == "Pairs":
        from regard.data.collate import Pairs

        return Pairs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
