"""What the recipes of `regard new` share that train a text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regard.cli.new.common import RHYTHM, horizon, rounded, row_for

# Up to so many examples: entries of the vocabulary, preset, peak rate, epochs aimed at, steps at
# most. The second row is the setting of the recipe sst2.
_SIZES = (
    (10_000, (4_000, "tiny", 1e-3, 15, 4_000)),
    (200_000, (8_000, "tiny", 1e-3, 3, 6_000)),
    (2_000_000, (16_000, "mini", 5e-4, 3, 50_000)),
    (None, (32_000, "small", 3e-4, 2, 200_000)),
)

A_WORD = 1.4
"""Pieces that a word has, with the special tokens."""


def choose_encoder(examples: int, words: float, long: int) -> Mapping[str, Any]:
    """Tokenizer, model and horizon of a text encoder.

    Args:
        examples: to learn from.
        words: of one, on average.
        long: words that 95 of 100 examples do not exceed.
    """
    vocab, preset, peak, epochs, most = row_for(_SIZES, examples)
    longest = next((one for one in (64, 128, 256, 512) if one >= long * A_WORD), 512)
    batch = max(2_048, 8 * longest)
    steps = horizon(max(1, examples * words * A_WORD / batch), epochs, most)
    return {
        **steps,
        "vocab_size": vocab,
        "preset": preset,
        "peak": peak,
        "max_length": longest,
        "batch_tokens": batch,
        "warmup_steps": min(2_000, rounded(steps["max_steps"] / 20)),
        "epochs": f"{steps['epochs']:.0f}",
    }


OPTIMIZER = """\
[training.optimizer]
kind = "adamw"
betas = [0.9, 0.999]
eps = 1e-6
weight_decay = 0.01

[training.schedule]
kind = "linear"
"""

TRAINING = (
    """
[training]
max_steps = $max_steps       # about $epochs times through the data
batch_tokens = $batch_tokens  # of one micro-batch; less, if memory runs out
clip_norm = 1.0
seed = 1

"""
    + OPTIMIZER
    + """\
peak = $peak                 # highest learning rate; with start_from a tenth of it
"""
    + RHYTHM
    + """\
metric = "$metric"           # $others; the checkpoint that is best by it is used
samples = 3
"""
)
