"""``regard new summarization``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from string import Template
from typing import Annotated, Any

import typer

from regard.cli.files import refuse_existing
from regard.cli.new.common import (
    LEARNING,
    RHYTHM,
    SAMPLED,
    Output,
    Test,
    Train,
    Valid,
    mean,
    place,
    quoted,
    rounded,
    splits_of,
    write,
)
from regard.cli.new.translation import BATCH_TOKENS, Measured, choose


def summarization(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    source: Annotated[str, typer.Option(help="The field of the text.")] = "source",
    target: Annotated[str, typer.Option(help="The field of its summary.")] = "target",
) -> None:
    """Write a recipe that trains a model to summarize texts like yours.

    Each file is a table (.jsonl, .tsv, .csv, .parquet) of texts and summaries; in JSON lines either
    may be a list, of sentences and of summaries that are right. Vocabulary, model and number of
    steps follow from how many there are; everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    fields = {"source": source, "target": target}
    named = {} if all(name == field for name, field in fields.items()) else fields
    splits = splits_of(train, valid, test)
    counted = {name: measure(path, named) for name, path in splits.items()}
    inside = ", ".join(f"{name} = {quoted(field)}" for name, field in named.items())
    more = f", fields = {{ {inside} }}" if named else ""
    data = [
        f"# {counted[name][0].pairs:,} texts\n{name} = {{ file = {place(path, output)}{more} }}"
        for name, path in splits.items()
    ]
    found, longest = counted["train"]
    choice = choose(found)
    values = {
        **vars(choice),
        "preset": "small" if choice.preset == "base" else choice.preset,
        "texts": f"{found.pairs:,}",
        "longest": max(256, rounded(longest * 1.35 + 20)),
        "batch_tokens": max(BATCH_TOKENS, 2 * rounded(longest * 1.35 + 20)),
        "epochs": f"{choice.epochs:.0f}",
    }
    write(output, _RECIPE, values, data)


def measure(path: Path, fields: dict[str, str]) -> tuple[Measured, int]:
    """Count a table; also the words of its longest text.

    Raises:
        DataError: for a file that is missing or no table, or a field that it lacks.
    """
    from regard.data import open_source
    from regard.tasks.listed import with_lists
    from regard.tasks.translation import COLUMNS

    data: dict[str, Any] = {"file": str(path), **({"fields": fields} if fields else {})}
    rows = with_lists(open_source(data, columns=COLUMNS))
    words = [[len(text.split()) for text in one.fields] for one in islice(rows, SAMPLED)]
    count = sum(1 for _ in rows)
    return Measured(count, mean(sum(both) for both in words)), max(both[0] for both in words)


_RECIPE = Template(
    """\
# Summarization, written by `regard new` for $texts texts.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard summarize runs/$stem "…"
#
# All keys with their meanings: regard recipe schema --markdown

task = "summarization"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
prefix = "summarize: "
max_length = $longest             # tokens; longer texts are not trained on, and counted

[tokenizer]
kind = "bpe"                 # or unigram, wordpiece, bytes, chars
vocab_size = $vocab_size

[model]
preset = "$preset"              # T5's: tiny, small, base, large, v1_1-small …; or start_from
max_positions = $longest       # of the longest text that is read: nothing is learned of it
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
metric = "loss"              # or rouge1, rouge2, rougeL
samples = 3

[decoding]
beam = 4
max_length = 100
"""
)
