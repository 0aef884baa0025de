"""``regard new translation``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from regard.cli.files import refuse_existing
from regard.cli.new.common import (
    LEARNING,
    SAMPLED,
    Output,
    horizon,
    mean,
    place,
    rounded,
    row_for,
    write,
)
from regard.errors import DataError, InputError

TABLES = {".tsv", ".csv", ".jsonl", ".parquet"}


def translation(
    train_source: Annotated[Path, typer.Option(help="Texts to learn from, one a line.")],
    train_target: Annotated[Path, typer.Option(help="Their translations, line by line.")],
    valid_source: Annotated[Path, typer.Option(help="Other texts, to watch progress on.")],
    valid_target: Annotated[Path, typer.Option(help="Their translations.")],
    output: Output,
    test_source: Annotated[Path | None, typer.Option(help="Texts to score at the end.")] = None,
    test_target: Annotated[Path | None, typer.Option(help="Their translations.")] = None,
) -> None:
    """Write a recipe that trains a translation model on your text.

    The files are plain text (.gz and .zst as well): line 7 of one is the translation of line 7 of
    the other. The recipe's vocabulary, model and number of steps follow from how much text there
    is; each has a comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    if (test_source is None) != (test_target is None):
        raise typer.BadParameter("give --test-source and --test-target together")
    splits = {"train": (train_source, train_target), "valid": (valid_source, valid_target)}
    if test_source is not None and test_target is not None:
        splits["test"] = (test_source, test_target)
    counted = {name: measure(*pair) for name, pair in splits.items()}
    data = [
        f"# {counted[name].pairs:,} pairs\n"
        f"{name} = {{ source = {place(source, output)}, target = {place(target, output)} }}"
        for name, (source, target) in splits.items()
    ]
    train = counted["train"]
    choice = choose(train)
    values = {
        **vars(choice),
        "pairs": f"{train.pairs:,}",
        "words": f"{train.words:.0f}",
        "batch_tokens": BATCH_TOKENS,
        "epochs": f"{choice.epochs:.0f}",
    }
    write(output, _RECIPE, values, data)


@dataclass(frozen=True)
class Measured:
    """How much text there is.

    Attributes:
        pairs: lines of each side.
        words: of a source and target line together, on average.
    """

    pairs: int
    words: float


def measure(source: Path, target: Path) -> Measured:
    """Count a pair of files.

    Raises:
        InputError: one is a table.
        DataError: for a file that is missing or no text, or for files of unequal length.
    """
    from regard.data.readers import count_lines, read_lines

    for path in (source, target):
        if table := TABLES & {suffix.lower() for suffix in path.suffixes}:
            raise InputError(
                f"is a table ({table.pop()}): here each side has a file of its own, a text a line",
                where=str(path),
                hint="a recipe reads tables by data.train.file and data.train.fields",
            )
    words = [
        mean(len(line.split()) for line in islice(read_lines(path), SAMPLED))
        for path in (source, target)
    ]
    lines = [count_lines(path) for path in (source, target)]
    if lines[0] != lines[1]:
        raise DataError(
            f"{source} has {lines[0]:,} lines, {target} has {lines[1]:,}",
            hint="line n of one file must be the translation of line n of the other",
        )
    return Measured(lines[0], sum(words))


@dataclass(frozen=True)
class Choice:
    """Settings that follow from the amount of text."""

    vocab_size: int
    preset: str
    dropout: float
    peak: float
    warmup_steps: int
    accumulate: int
    max_steps: int
    evaluate: int
    epochs: float


BATCH_TOKENS = 4096

# Up to so many pairs: vocabulary, preset, dropout, peak rate, warm-up, accumulate, epochs aimed at,
# steps at most. The second row is the published setting of Multi30k (29,000 pairs), the last the
# paper's (4.5 million); between them as the field trains sets of such sizes (fairseq's IWSLT).
_SIZES = (
    (10_000, (2_000, "tiny", 0.3, 0.003, 400, 1, 60, 8_000)),
    (60_000, (8_000, "tiny", 0.3, 0.005, 2_000, 2, 80, 8_000)),
    (500_000, (10_000, "base", 0.3, 0.0005, 4_000, 2, 40, 50_000)),
    (2_000_000, (24_000, "base", 0.1, 0.0007, 4_000, 8, 30, 100_000)),
    (None, (32_000, "base", 0.1, 0.0007, 4_000, 12, 20, 100_000)),
)


def choose(train: Measured) -> Choice:
    """Vocabulary, model and horizon for so much text."""
    vocab_size, preset, dropout, peak, warmup, accumulate, epochs, most = row_for(
        _SIZES, train.pairs
    )
    # Subword pieces are about a third more than words; each text gets its end token.
    tokens = train.pairs * (train.words * 1.35 + 2)
    found = horizon(max(1, round(tokens / (BATCH_TOKENS * accumulate))), epochs, most)
    return Choice(
        vocab_size=vocab_size,
        preset=preset,
        dropout=dropout,
        peak=peak,
        warmup_steps=min(warmup, rounded(found["max_steps"] / 4)),
        accumulate=accumulate,
        **found,
    )


_RECIPE = Template(
    """\
# Translation, written by `regard new` for $pairs pairs of $words words (both sides together).
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard translate runs/$stem "…"
#
# All keys with their meanings: regard recipe schema --markdown

task = "translation"

[data]                       # paths are relative to this file; .gz and .zst may stay packed
max_length = 256             # tokens; longer pairs are left out, and counted

[tokenizer]
kind = "bpe"                 # or unigram, wordpiece, bytes, chars; words for segmented text
vocab_size = $vocab_size
joint = true                 # one vocabulary for both; if false, model.tie = "target" as well

[model]
preset = "$preset"              # tiny, base or big
"""
    + LEARNING
    + """\
seed = 1

[training.optimizer]
kind = "adam"

[training.schedule]
kind = "inverse_sqrt"
peak = $peak               # highest learning rate; halve it if the loss jumps
warmup_steps = $warmup_steps

[training.checkpoint]
every_steps = $evaluate
keep = 5
average = 5                  # the mean of the last five is what translates

[evaluation]
every_steps = $evaluate
metric = "loss"              # or bleu
samples = 3

[decoding]
beam = 5
length_penalty = { kind = "power", alpha = 1.0 }
"""
)
