"""``regard new masked-language-modeling``."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Annotated, Any

import typer

from regard.cli.files import refuse_existing
from regard.cli.new.common import (
    RHYTHM,
    Output,
    Test,
    Train,
    Valid,
    horizon,
    rounded,
    row_for,
    splits_of,
    write,
)
from regard.cli.new.encoder import OPTIMIZER
from regard.cli.new.language_modeling import Measured, lines_of, measure


def masked_language_modeling(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    field: Annotated[
        str | None, typer.Option(help="Of a table: the field that holds a document's text.")
    ] = None,
) -> None:
    """Write a recipe that pre-trains an encoder on your text: it learns to guess hidden words.

    Each file is one plain text, or a table (.jsonl, .tsv, .csv, .parquet) whose records are
    documents. Tokenizer, model and number of steps follow from how much text there is; each has a
    comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    splits = splits_of(train, valid, test)
    counted = {name: measure(path, field) for name, path in splits.items()}
    write(output, _RECIPE, choose(counted["train"]), lines_of(splits, counted, field, output))


# Up to so many characters: entries of the vocabulary, preset, block, peak rate, tokens of a step,
# epochs aimed at, steps at most. The last row learns a BERT base.
_SIZES = (
    (500_000, (2_000, "tiny", 64, 1e-3, 4_096, 40, 4_000)),
    (10_000_000, (8_000, "tiny", 128, 1e-3, 8_192, 20, 10_000)),
    (100_000_000, (16_000, "mini", 128, 1e-3, 16_384, 10, 40_000)),
    (2_000_000_000, (30_000, "small", 128, 5e-4, 65_536, 5, 200_000)),
    (None, (30_000, "base", 512, 1e-4, 131_072, 40, 1_000_000)),
)

A_TOKEN = 4
"""Characters of a token."""


def choose(train: Measured) -> Mapping[str, Any]:
    """Tokenizer, model and horizon for so much text."""
    vocab, preset, block, peak, tokens, epochs, most = row_for(_SIZES, train.characters)
    steps = horizon(max(1, train.characters / A_TOKEN / tokens), epochs, most)
    accumulate = max(1, tokens // 8_192)
    return {
        **steps,
        "characters": f"{train.characters:,}",
        "vocab_size": vocab,
        "preset": preset,
        "block": block,
        "peak": peak,
        "warmup_steps": min(10_000, rounded(steps["max_steps"] / 10)),
        "batch_tokens": tokens // accumulate,
        "accumulate": accumulate,
        "epochs": f"{steps['epochs']:.0f}",
    }


_RECIPE = Template(
    """\
# Masked language modeling, written by `regard new` for $characters characters.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard fill runs/$stem "… <mask> …"
#
# Then other recipes begin with model.start_from = "runs/$stem": they take its tokenizer and size.
#
# All keys with their meanings: regard recipe schema --markdown

task = "masked-language-modeling"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
max_length = $block          # tokens of a block, special ones included

[tokenizer]
kind = "wordpiece"           # or bpe, unigram
vocab_size = $vocab_size
lowercase = true

[model]
preset = "$preset"           # tiny, mini, small, medium, base, large, distilbert
max_positions = 512          # tokens that a task which starts from here can read
positions = "rotary"         # learned ones, as BERT has them, begin to learn much later

[objective]
kind = "masked_lm"
mask_rate = 0.15             # share of the tokens to guess
whole_word = false           # true: all pieces of a word are hidden together
next_sentence = false        # true: two segments, and whether the second follows the first

[training]
max_steps = $max_steps       # about $epochs times through the data
batch_tokens = $batch_tokens  # of one micro-batch; fewer, if memory runs out
accumulate = $accumulate     # micro-batches of a step
clip_norm = 1.0
seed = 1

"""
    + OPTIMIZER
    + """\
peak = $peak                 # highest learning rate; halve it if the loss jumps
"""
    + RHYTHM
    + """\
metric = "loss"              # or masked_accuracy
samples = 2
"""
)
