"""``regard new classification``."""

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

SCORES = {
    "classes": ("accuracy", "or f1, matthews, loss"),
    "multi_label": ("f1", "or exact_match, loss"),
    "regression": ("pearson", "or spearman, loss"),
}
"""The score that says which checkpoint is best, by what a label is; others that can."""


def classification(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    text: Annotated[str, typer.Option(help="Field of the text; a number without header.")] = "text",
    label: Annotated[str, typer.Option(help="Field of what is right.")] = "label",
    pair: Annotated[
        str | None, typer.Option(help="Field of a second text, where pairs are classified.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What a label is: classes (one of some), multi_label (any number of them) or "
            "regression (a number, the default where there are fractions)."
        ),
    ] = None,
) -> None:
    """Write a recipe that trains a model to classify texts like yours, or pairs of them.

    Each file is a table (.tsv, .csv, .jsonl or .parquet; the first three also .gz or .zst).
    Tokenizer, model and number of steps follow from how much text there is; each has a comment, and
    everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    if kind is not None and kind not in SCORES:
        raise InputError(
            f"there is no {kind!r}", where="--kind", hint=f"known: {', '.join(SCORES)}"
        )
    columns = {"text": field(text), "label": field(label)}
    if pair is not None:
        columns["pair"] = field(pair)
    splits = splits_of(train, valid, test)
    counted = {name: measure(path, columns, kind) for name, path in splits.items()}
    usual = columns == {"text": "text", "label": "label"}
    fields = "" if usual else f", fields = {table(columns)}"
    data = [
        f"# {counted[name].examples:,} examples\n"
        f"{name} = {{ file = {place(path, output)}{fields} }}"
        for name, path in splits.items()
    ]
    write(output, _RECIPE, choose(counted["train"], pair is not None), data)


@dataclass(frozen=True)
class Measured:
    """How much there is to learn from.

    Attributes:
        examples: with text and label.
        words: of an example, on average.
        long: words that 95 of 100 examples do not exceed.
        labels: different ones.
        kind: of the objective.
    """

    examples: int
    words: float
    long: int
    labels: int
    kind: str


def measure(path: Path, columns: Mapping[str, str | int], kind: str | None) -> Measured:
    """Count a table.

    Raises:
        DataError: for a file or field that is missing, or one without examples.
    """
    from regard.data import open_source
    from regard.data.codecs import LIST

    lists = ("label",) if kind == "multi_label" else ()
    source = open_source(
        {"file": str(path), "fields": dict(columns)}, columns=tuple(columns), lists=lists
    )
    sizes, labels = list[int](), set[str]()
    at = source.columns.index("label")
    for example in source:
        texts, given = [*example.fields[:at], *example.fields[at + 1 :]], example.fields[at]
        if all(one.strip() for one in texts) and (given.strip() or lists):
            sizes.append(sum(len(one.split()) for one in texts))
            labels.update(given.split(LIST) if lists else [given.strip()])
    if not sizes:
        raise DataError("there is no example in it", where=str(path))
    sizes.sort()
    found = kind or ("regression" if _fractions(labels) else "classes")
    long = sizes[int(0.95 * len(sizes))]
    return Measured(len(sizes), sum(sizes) / len(sizes), long, len(labels - {""}), found)


def _fractions(labels: set[str]) -> bool:
    """Whether labels are numbers that are not all whole."""
    try:
        return any(not float(label).is_integer() for label in labels)
    except (ValueError, OverflowError):
        return False


def choose(train: Measured, pairs: bool) -> Mapping[str, Any]:
    """Tokenizer, model and horizon for so many examples."""
    what = "numbers" if train.kind == "regression" else f"{train.labels:,} labels"
    return {
        **choose_encoder(train.examples, train.words, train.long),
        "examples": f"{train.examples:,}",
        "words": f"{train.words:.0f}",
        "what": what,
        "kind": train.kind,
        "metric": SCORES[train.kind][0],
        "others": SCORES[train.kind][1],
        "input": '"TEXT<TAB>OTHER TEXT"' if pairs else '"…"',
    }


_RECIPE = Template(
    """\
# Classification, written by `regard new` for $examples examples of $words words, $what.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard classify runs/$stem $input
#
# All keys with their meanings: regard recipe schema --markdown

task = "classification"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
max_length = $max_length     # tokens that are read; 95 of 100 examples fit, up to 512

[tokenizer]
kind = "wordpiece"           # or bpe, unigram, bytes, chars, words
vocab_size = $vocab_size
lowercase = true             # if upper case says nothing about the label

[model]
preset = "$preset"           # tiny, mini, small … ; or start_from = "runs/pretrained" instead
layer.dropout = 0.1          # less text wants more dropout

[objective]
kind = "$kind"               # classes, multi_label or regression
"""
    + TRAINING
)
