"""``regard new text-to-text``."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Annotated

import typer

from regard.cli.files import refuse_existing
from regard.cli.new.common import LEARNING, RHYTHM, Output, place, quoted, write
from regard.cli.new.translation import BATCH_TOKENS, choose, measure


def text_to_text(
    train_source: Annotated[Path, typer.Option(help="Texts to learn from, one a line.")],
    train_target: Annotated[Path, typer.Option(help="What to make of them, line by line.")],
    valid_source: Annotated[Path, typer.Option(help="Other texts, to watch progress on.")],
    valid_target: Annotated[Path, typer.Option(help="What to make of them.")],
    output: Output,
    prefix: Annotated[str, typer.Option(help="What stands before every text.")] = "",
) -> None:
    """Write a recipe that trains a model to make texts of texts like yours.

    The files are plain text (.gz and .zst as well): line 7 of one belongs to line 7 of the other.
    Several tasks in one run are a `mixture`, which the recipe shows. Vocabulary, model and number
    of steps follow from how much text there is; everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    splits = {"train": (train_source, train_target), "valid": (valid_source, valid_target)}
    counted = {name: measure(*pair) for name, pair in splits.items()}
    data = [f"prefix = {quoted(prefix)}"] * bool(prefix) + [
        f"# {counted[name].pairs:,} pairs\n"
        f"{name} = {{ source = {place(source, output)}, target = {place(target, output)} }}"
        for name, (source, target) in splits.items()
    ]
    choice = choose(counted["train"])
    values = {
        **vars(choice),
        "preset": "small" if choice.preset == "base" else choice.preset,
        "pairs": f"{counted['train'].pairs:,}",
        "batch_tokens": BATCH_TOKENS,
        "epochs": f"{choice.epochs:.0f}",
    }
    write(output, _RECIPE, values, data)


_RECIPE = Template(
    """\
# Text to text, written by `regard new` for $pairs pairs.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard generate runs/$stem "…"
#
# Several tasks in one run: see the end.
# All keys with their meanings: regard recipe schema --markdown

task = "text-to-text"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
max_length = 256             # tokens; longer pairs are left out, and counted

[tokenizer]
kind = "bpe"                 # or unigram, wordpiece, bytes, chars
vocab_size = $vocab_size

[model]
preset = "$preset"              # T5's: tiny, small, base, large, v1_1-small …; or start_from
"""
    + LEARNING
    + """\

[training.optimizer]
kind = "adafactor"           # T5's; adam is slow where embeddings begin large

[training.schedule]
kind = "inverse_sqrt"
peak = 0.02                  # highest rate, of each weight's size; halve it if the loss jumps
"""
    + RHYTHM
    + """\
metric = "loss"              # or bleu, chrf, exact_match, f1, rouge1, rouge2, rougeL
samples = 3

[decoding]
beam = 4

# Several tasks in one run, in place of [data]'s prefix, train and valid: a table for each:
#
# [[mixture]]
# name = "short"
# prefix = "summarize: "
# rate = 1.0                 # its share, beside the others' rates: of all tasks, or of none
# metrics = ["chrf"]
# train = { source = "long.txt", target = "short.txt" }
# valid = { source = "long-valid.txt", target = "short-valid.txt" }
"""
)
