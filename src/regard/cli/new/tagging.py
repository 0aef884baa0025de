"""``regard new tagging``."""

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
    field,
    place,
    splits_of,
    table,
    write,
)
from regard.cli.new.encoder import TRAINING, choose_encoder
from regard.errors import DataError, InputError


def tagging(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    words: Annotated[
        str | None, typer.Option(help="Column of the words: a number, or a table's field.")
    ] = None,
    tags: Annotated[str | None, typer.Option(help="Column of the tags.")] = None,
) -> None:
    """Write a recipe that trains a model to tag words like yours, such as to find names.

    Each file is of CoNLL's kind, a word and its tag a line and a blank line after each sentence (by
    default the first column and the last), or a table (.jsonl, .parquet, .tsv, .csv) whose fields
    words and tags hold lists. Model and number of steps follow from how much text there is; each
    has a comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    if (words is None) != (tags is None):
        raise InputError("give --words and --tags together")
    columns = {"words": field(words), "tags": field(tags)} if words and tags else None
    splits = splits_of(train, valid, test)
    counted = {name: measure(path, columns) for name, path in splits.items()}
    fields = "" if columns is None else f", fields = {table(columns)}"
    data = [
        f"# {counted[name].sentences:,} sentences\n"
        f"{name} = {{ file = {place(path, output)}{fields} }}"
        for name, path in splits.items()
    ]
    write(output, _RECIPE, choose(counted["train"]), data)


@dataclass(frozen=True)
class Measured:
    """How much there is to learn from.

    Attributes:
        sentences: with their tags.
        words: of a sentence, on average.
        long: words that 95 of 100 sentences do not exceed.
        tags: different ones.
        spans: whether they spell any.
    """

    sentences: int
    words: float
    long: int
    tags: int
    spans: bool


def measure(path: Path, columns: Mapping[str, str | int] | None) -> Measured:
    """Count a file of tagged words.

    Raises:
        DataError: for one that is missing, damaged or without sentences.
    """
    from regard.data.codecs import LIST
    from regard.metrics.spans import spells
    from regard.tasks.tagging import tagged_words

    sizes, tags = list[int](), set[str]()
    given = {"file": str(path), **({"fields": dict(columns)} if columns else {})}
    for example in tagged_words(given):
        found = example.fields[1].split(LIST)
        sizes.append(len(found))
        tags.update(found)
    if not sizes:
        raise DataError("there is no sentence in it", where=str(path))
    sizes.sort()
    long = sizes[int(0.95 * len(sizes))]
    return Measured(len(sizes), sum(sizes) / len(sizes), long, len(tags), any(map(spells, tags)))


def choose(train: Measured) -> Mapping[str, Any]:
    """Tokenizer, model and horizon for so many sentences."""
    return {
        **choose_encoder(train.sentences, train.words, train.long),
        "sentences": f"{train.sentences:,}",
        "words": f"{train.words:.0f}",
        "tags": f"{train.tags:,}",
        "metric": "f1" if train.spans else "accuracy",
        "others": "or accuracy, loss" if train.spans else "or loss",
    }


_RECIPE = Template(
    """\
# Tagging, written by `regard new` for $sentences sentences of $words words, $tags tags.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard tag runs/$stem "…"
#
# All keys with their meanings: regard recipe schema --markdown

task = "tagging"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
max_length = $max_length     # tokens that are read; 95 of 100 sentences fit, up to 512

[tokenizer]
kind = "wordpiece"           # or bpe, unigram, bytes, chars, words
vocab_size = $vocab_size
lowercase = false            # names are told by their case

[model]
preset = "$preset"           # tiny, mini, small … ; or start_from = "runs/pretrained" instead
layer.dropout = 0.1          # less text wants more dropout

[objective]
kind = "classes"
"""
    + TRAINING
)
