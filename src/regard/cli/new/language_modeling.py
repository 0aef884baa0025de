"""``regard new language-modeling``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Any

import typer

from regard.cli.files import refuse_existing
from regard.cli.new.common import (
    Output,
    Test,
    Train,
    Valid,
    horizon,
    place,
    quoted,
    rounded,
    row_for,
    splits_of,
    write,
)
from regard.cli.new.decoder import TRAINING
from regard.errors import InputError

TABLES = (".tsv", ".csv", ".jsonl", ".ndjson", ".parquet")


def language_modeling(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    field: Annotated[
        str | None, typer.Option(help="Of a table: the field that holds a document's text.")
    ] = None,
) -> None:
    """Write a recipe that trains a language model on your text.

    Each file is one plain text, or a table (.jsonl, .tsv, .csv, .parquet) whose records are
    documents. Tokenizer, model and number of steps follow from how much text there is; each has a
    comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    splits = splits_of(train, valid, test)
    counted = {name: measure(path, field) for name, path in splits.items()}
    write(output, _RECIPE, choose(counted["train"]), lines_of(splits, counted, field, output))


@dataclass(frozen=True)
class Measured:
    """How much text there is.

    Attributes:
        characters: in all.
        letters: different ones.
    """

    characters: int
    letters: int


def measure(path: Path, field: str | None) -> Measured:
    """Count a text, or the documents of a table.

    Raises:
        InputError: a table without a field, or a field without a table.
        DataError: for a file that is missing, empty or no text.
    """
    from regard.data import RunningText, Source, open_source

    table = any(suffix.lower() in TABLES for suffix in path.suffixes)
    if table != (field is not None):
        what = "is a table, and no field is named" if table else "is no table, but a field is named"
        hint = "name the field of the text: --field NAME" if table else "leave --field out"
        raise InputError(what, where=str(path), hint=hint)
    given = {"file": str(path), "fields": {"text": field}}
    source: Source = open_source(given, columns=("text",)) if table else RunningText(path)
    characters, letters = 0, set[str]()
    for example in source:
        characters += len(example.fields[0])
        letters.update(example.fields[0])
    return Measured(characters, len(letters))


def lines_of(
    splits: Mapping[str, Path], counted: Mapping[str, Measured], field: str | None, output: Path
) -> list[str]:
    """The lines of the recipe's data."""
    fields = "" if field is None else f", fields = {{ text = {quoted(field)} }}"
    return [
        f"# {counted[name].characters:,} characters\n"
        f"{name} = {{ file = {place(path, output)}{fields} }}"
        for name, path in splits.items()
    ]


MOST_LETTERS = 500
"""With more of them, characters make a long vocabulary and a poor tokenizer."""

# Up to so many characters: entries of the vocabulary (None: characters themselves), characters of a
# token, preset, block, dropout, peak rate, blocks of a step, epochs aimed at, steps at most. The
# second row is Shakespeare's million; the last learns a GPT-2.
_SIZES = (
    (300_000, (None, 1, "nano-cpu", 128, 0.2, 2e-3, 32, 20, 4_000)),
    (5_000_000, (None, 1, "nano-cpu", 128, 0.1, 2e-3, 32, 10, 10_000)),
    (50_000_000, (4_000, 3.5, "nano", 256, 0.1, 1e-3, 32, 10, 20_000)),
    (1_000_000_000, (16_000, 4, "nano", 256, 0.0, 1e-3, 64, 3, 100_000)),
    (None, (32_000, 4, "gpt2", 1024, 0.0, 6e-4, 480, 1, 600_000)),
)


_GATED = {"nano-cpu": 344, "nano": 1024}
"""Widths of a gated feed-forward network that has as many weights as the preset's plain one."""

_LLAMA = """\
positions = "rotary"         # these make it a Llama, which `regard export hf` can write
layer.norm.kind = "rmsnorm"
layer.feed_forward = { kind = "gated", activation = "silu", d_ff = $d_ff }
"""


def choose(train: Measured) -> Mapping[str, Any]:
    """Tokenizer, model and horizon for so much text."""
    vocab, a_token, preset, block, dropout, peak, blocks, epochs, most = row_for(
        _SIZES, train.characters
    )
    kind = "chars" if vocab is None else "bpe"
    if vocab is None and train.letters > MOST_LETTERS:
        kind, vocab, a_token = "bpe", 2_000, 2
    steps = horizon(max(1, train.characters / a_token / (block * blocks)), epochs, most)
    # What a machine of some gigabytes holds at once; the rest of a step is accumulated.
    accumulate = max(1, block * blocks // 16_384)
    return {
        **steps,
        "characters": f"{train.characters:,}",
        "letters": f"{train.letters:,}",
        "kind": kind,
        "vocab": "" if vocab is None else f"vocab_size = {vocab}\n",
        "preset": preset,
        "style": Template(_LLAMA).substitute(d_ff=_GATED[preset]) if preset in _GATED else "",
        "block": block,
        "dropout": dropout,
        "peak": peak,
        "warmup_steps": min(2_000, rounded(steps["max_steps"] / 20)),
        "batch_size": blocks // accumulate,
        "accumulate": accumulate,
        "epochs": f"{steps['epochs']:.0f}",
    }


_RECIPE = Template(
    """\
# Language modeling, written by `regard new` for $characters characters, $letters different ones.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard generate runs/$stem "…"
#
# All keys with their meanings: regard recipe schema --markdown

task = "language-modeling"

[data]                       # paths are relative to this file; .gz and .zst may stay packed

[tokenizer]
kind = "$kind"               # chars and bytes suit little text, bpe much
$vocab
[model]
preset = "$preset"           # nano-cpu, nano, gpt2, gpt2-medium … or in Llama's style stories15m
${style}\
max_positions = $block       # tokens that the model reads, and of a block that it learns from
"""
    + TRAINING
    + """\
[decoding]
strategy = "sample"
temperature = 0.8
"""
)
