"""``regard new question-answering``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
    place,
    quoted,
    rounded,
    row_for,
    splits_of,
    write,
)
from regard.cli.new.encoder import OPTIMIZER
from regard.errors import DataError


def question_answering(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    question: Annotated[str, typer.Option(help="Of a table: the field of it.")] = "question",
    context: Annotated[str, typer.Option(help="The field of the text asked about.")] = "context",
    answer: Annotated[str, typer.Option(help="The field of the answer.")] = "answer",
) -> None:
    """Write a recipe that trains a model to find answers in texts like yours.

    Each file is SQuAD's JSON, or a table (.jsonl, .tsv, .csv, .parquet) of questions, texts and
    answers. Tokenizer, model and number of steps follow from how many there are; each has a
    comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    splits = splits_of(train, valid, test)
    fields = {"question": question, "context": context, "answer": answer}
    if all(name == field for name, field in fields.items()):
        fields = {}
    counted = {name: measure(path, fields) for name, path in splits.items()}
    inside = ", ".join(f"{name} = {quoted(field)}" for name, field in fields.items())
    more = f", fields = {{ {inside} }}" if fields else ""
    data = [
        f"# {counted[name].questions:,} questions, {counted[name].unanswered:,} without an answer\n"
        f"{name} = {{ file = {place(path, output)}{more} }}"
        for name, path in splits.items()
    ]
    write(output, _RECIPE, choose(counted["train"]), data)


@dataclass(frozen=True)
class Measured:
    """How much is asked.

    Attributes:
        questions: how many.
        unanswered: those that their texts do not answer.
        characters: of the texts, each as often as it is asked about.
        long: characters that 95 of 100 texts do not exceed.
    """

    questions: int
    unanswered: int
    characters: int
    long: int


def measure(path: Path, fields: Mapping[str, str]) -> Measured:
    """Count the questions of a file.

    Raises:
        DataError: for a file that is missing, empty or holds something else.
    """
    from regard.tasks.question_answering import questions_of

    given = {"file": str(path), **({"fields": dict(fields)} if fields else {})}
    rows = [one.fields for one in questions_of(given)]
    sizes = sorted(len(text) for _, text, _ in rows)
    if not sizes:
        raise DataError("there is no question in it", where=str(path))
    without = sum(json.loads(answers) == [] for *_, answers in rows)
    return Measured(len(sizes), without, sum(sizes), sizes[int(0.95 * len(sizes))])


# Up to so many questions: entries of the vocabulary, preset, peak rate, tokens of a step, epochs
# aimed at, steps at most. The first row is XQuAD's thousand; the last, SQuAD's hundred thousand.
_SIZES = (
    (5_000, (8_000, "tiny", 1e-3, 8_192, 10, 4_000)),
    (30_000, (16_000, "mini", 5e-4, 8_192, 6, 20_000)),
    (None, (30_000, "small", 3e-4, 16_384, 4, 100_000)),
)

A_TOKEN = 4
"""Characters of a token."""

A_QUESTION = 24
"""Tokens of a question, with the special ones."""

WINDOWS = (128, 256, 384)


def choose(train: Measured) -> Mapping[str, Any]:
    """Tokenizer, model and horizon for so many questions."""
    vocab, preset, peak, tokens, epochs, most = row_for(_SIZES, train.questions)
    wanted = train.long / A_TOKEN + A_QUESTION
    window = next((one for one in WINDOWS if one >= wanted), WINDOWS[-1])
    accumulate = max(1, tokens // 8_192)
    read = train.characters / A_TOKEN + train.questions * A_QUESTION
    steps = horizon(max(1, read / tokens), epochs, most)
    return {
        **steps,
        "questions": f"{train.questions:,}",
        "vocab_size": vocab,
        "preset": preset,
        "window": window,
        "stride": window // 3,
        "peak": peak,
        "warmup_steps": min(2_000, rounded(steps["max_steps"] / 10)),
        "batch_tokens": tokens // accumulate,
        "accumulate": accumulate,
        "epochs": f"{steps['epochs']:.0f}",
    }


_RECIPE = Template(
    """\
# Question answering, written by `regard new` for $questions questions.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard answer runs/$stem "…" --context "…"
#
# From random weights it takes many thousand questions to learn this. With fewer, pre-train first
# (regard new masked-language-modeling), then write start_from in [model] and leave [tokenizer] out.
#
# All keys with their meanings: regard recipe schema --markdown

task = "question-answering"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
max_length = $window         # tokens of question and text read at once; longer texts in windows
stride = $stride             # tokens between the beginnings of two windows

[tokenizer]
kind = "wordpiece"           # or bpe, unigram
vocab_size = $vocab_size
lowercase = true

[model]
preset = "$preset"           # tiny, mini, small, medium, base, large; or start_from = "runs/…"

[objective]
kind = "span"

[training]
max_steps = $max_steps       # about $epochs times through the data
batch_tokens = $batch_tokens  # of one micro-batch; fewer, if memory runs out
accumulate = $accumulate     # micro-batches of a step
clip_norm = 1.0
patience = 10                # stop after so many evaluations without a better one
seed = 1

"""
    + OPTIMIZER
    + """\
peak = $peak                 # highest learning rate; 5e-5 with start_from and a large model
"""
    + RHYTHM
    + """\
metric = "f1"                # or exact_match, loss
samples = 2
"""
)
