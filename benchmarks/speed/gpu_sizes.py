"""What `benchmarks.speed.gpu` trains and writes: shapes, and the same ones small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regard import registry

Batch = dict[str, Tensor]
Step = Callable[[], int]
"""Does one step (or one generation), and says how many tokens that were."""


@dataclass(frozen=True)
class Place:
    """Where everything runs, and whether compiled."""

    device: torch.device
    compile: bool

    def compiled(self, function: Any) -> Any:
        return torch.compile(function) if self.compile else function


@dataclass(frozen=True)
class Size:
    """A model and its batch; an encoder-decoder has rows of ``length`` on both sides."""

    family: str
    preset: str
    vocabulary: int
    rows: int
    length: int
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        both = "" if self.family == "gpt" else f" + {self.length}"
        return f"{self.family} {self.preset}, training, {self.rows} × {self.length}{both}"

    @property
    def tokens(self) -> int:
        """Of a batch, both sides."""
        return self.rows * self.length * (1 if self.family == "gpt" else 2)

    def config(self) -> Any:
        """Of the model."""
        dropout = 0.0 if self.family == "gpt" else 0.1
        names = ("embedding.dropout", "layer.dropout", "layer.attention.dropout")
        settings = {**dict.fromkeys(names, dropout), "layer.attention.dropout": 0.0}
        return registry.family(self.family).config.preset(
            self.preset, vocab_size=self.vocabulary, overrides={**settings, **self.overrides}
        )


@dataclass(frozen=True)
class Text:
    """A prompt and what is written after it."""

    size: Size
    prompt: int
    new: int

    @property
    def said(self) -> str:
        return f"{self.size.preset}, {self.size.rows} × {self.new} tokens after {self.prompt}"


TRAINING = {
    "gpt2": Size("gpt", "gpt2", 50_304, 16, 1024),
    "base": Size("transformer", "base", 32_768, 256, 64),
    "big": Size("transformer", "big", 32_768, 256, 64),
}
DECODING = {
    f"generate-{rows}": Text(Size("gpt", "gpt2", 50_304, rows, 1024), 128, 128)
    for rows in (1, 16, 64)
}

_SMALL = {
    "d_model": 64,
    "num_layers": 2,
    "layer.attention.num_heads": 4,
    "layer.feed_forward.d_ff": 256,
    "max_positions": 64,
}
QUICK_TRAINING = {
    "gpt2": Size("gpt", "gpt2", 512, 4, 32, _SMALL),
    "base": Size("transformer", "base", 512, 4, 16, _SMALL),
}
QUICK_DECODING = {"generate-1": Text(Size("gpt", "gpt2", 512, 2, 32, _SMALL), 8, 8)}
