"""What the recipes of `regard new` share: measured data in, a commented file out, tried first.

A task's file measures its data, chooses sizes from a table, fills its template and calls `write`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Annotated, Any, TypedDict, TypeVar

import typer

from regard.cli.files import refuse_existing
from regard.cli.output import write_new

Output = Annotated[Path, typer.Option("-o", "--output", help="Recipe to write; a new file.")]

RHYTHM = """\
warmup_steps = $warmup_steps

[training.checkpoint]
every_steps = $evaluate
keep = 2

[evaluation]
every_steps = $evaluate
"""
"""Ends the schedule of a recipe that keeps its best checkpoint; its `[evaluation]` goes on."""

LEARNING = """\
embedding.dropout = $dropout      # less text wants more dropout
layer.dropout = $dropout

[objective]
label_smoothing = 0.1

[training]
max_steps = $max_steps            # about $epochs times through the data
batch_tokens = $batch_tokens          # of one micro-batch; less, if memory runs out
accumulate = $accumulate               # micro-batches of a step
clip_norm = 1.0
patience = 10                # stop after so many evaluations without a better one
"""
"""Of recipes that write text from text."""

SAMPLED = 20_000
"""Examples whose words or characters are counted; all are counted as examples."""

Train = Annotated[Path, typer.Option(help="What to learn from.")]
Valid = Annotated[Path, typer.Option(help="Other data, to watch progress on.")]
Test = Annotated[Path | None, typer.Option(help="Data to score at the end.")]

Row = TypeVar("Row")


class Horizon(TypedDict):
    """How long a run is: steps, how often it is evaluated, and the epochs that they are."""

    max_steps: int
    evaluate: int
    epochs: float


def row_for(sizes: Sequence[tuple[int | None, Row]], amount: float) -> Row:
    """The first row whose limit is not below the amount; None is no limit."""
    return next(row for limit, row in sizes if limit is None or amount <= limit)


def rounded(value: float) -> int:
    """A number that a person would write: one or two digits and zeros, at least 10."""
    unit = int(10 ** max(1, len(str(int(value))) - 2))
    return max(unit, round(value / unit) * unit)


def horizon(steps_an_epoch: float, epochs: float, most: int) -> Horizon:
    """About so many epochs, at least 500 steps and at most so many."""
    steps = min(most, max(rounded(steps_an_epoch * epochs), 500))
    evaluate = max(50, min(rounded(steps / 20), 5_000))
    return Horizon(max_steps=steps, evaluate=evaluate, epochs=steps / steps_an_epoch)


def mean(values: Iterable[int]) -> float:
    """0 where there are none."""
    held = list(values)
    return sum(held) / max(len(held), 1)


def splits_of(train: Path, valid: Path, test: Path | None) -> dict[str, Path]:
    """The files that are given, by split."""
    return {"train": train, "valid": valid, **({} if test is None else {"test": test})}


def quoted(text: str) -> str:
    """Text as TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def key(name: str) -> str:
    """A name as a key of TOML."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def field(name: str) -> str | int:
    """A field as a recipe has it: a number is a column without a header."""
    return int(name) if name.isdecimal() else name


def table(values: Mapping[str, str | int]) -> str:
    """A small table as TOML."""
    held = (f"{k} = {v if isinstance(v, int) else quoted(v)}" for k, v in values.items())
    return "{ " + ", ".join(held) + " }"


def place(path: Path, output: Path) -> str:
    """A path as TOML, relative to the recipe where it lies beside or below it."""
    shown = os.path.relpath(path.absolute(), output.absolute().parent)
    return quoted(str(path.absolute()) if shown.startswith(os.pardir) else shown)


def write(output: Path, template: Template, values: Mapping[str, Any], data: Sequence[str]) -> None:
    """Fill a template, try that it loads, write it, say what comes next.

    Args:
        output: the new file.
        template: with ``$name`` and ``$stem`` of the file, and a line ``[data]`` with its comment.
        values: what else it asks for.
        data: lines of that section, which come as they are.

    Raises:
        InputError: the file exists.
    """
    refuse_existing(output)
    filled = template.substitute({**values, "name": output.name, "stem": output.stem})
    lines = [_aligned(line) for line in filled.splitlines()]
    at = next(n for n, line in enumerate(lines) if line.startswith("[data]")) + 1
    text = "\n".join([*lines[:at], *data, *lines[at:]]) + "\n"
    _check(text, output)
    write_new(output, text)
    recipe, run = shlex.quote(str(output)), shlex.quote(f"runs/{output.stem}")
    typer.echo(f"wrote {output}")
    typer.echo(f"next:  regard check {recipe}")
    typer.echo(f"then:  regard train {recipe} --run {run}")


def _aligned(line: str) -> str:
    """A setting with its comment at one column."""
    setting, mark, comment = line.partition("  # ")
    return f"{setting.rstrip():<28} # {comment.lstrip()}" if mark and setting.strip() else line


def _check(text: str, output: Path) -> None:
    """What is written must load."""
    from regard.recipe import Recipe
    from regard.recipe.text import parse

    Recipe.from_settings(parse(text, str(output)))
