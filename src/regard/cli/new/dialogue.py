"""``regard new dialogue``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    key,
    place,
    quoted,
    rounded,
    row_for,
    splits_of,
    write,
)
from regard.cli.new.decoder import TRAINING
from regard.errors import DataError, InputError

USUAL_FIELD, OTHER_FIELD = "turns", "messages"
USUAL_ROLE = "assistant"


def dialogue(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    field: Annotated[
        str | None, typer.Option(help="That holds the turns; by default turns or messages.")
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option(
            help="Role that the model learns; by default assistant, or who speaks second."
        ),
    ] = None,
) -> None:
    """Write a recipe that trains a model to answer in dialogues like yours.

    The files are JSON lines (.jsonl, also .gz or .zst), a dialogue a line: {"messages": [{"role":
    "user", "content": "Hi"}, …]} or {"turns": [["user", "Hi"], …]}. Roles, tokenizer, model and
    number of steps follow from them; each has a comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    splits = splits_of(train, valid, test)
    counted = {name: measure(path, field) for name, path in splits.items()}
    found = counted["train"]
    roles = list(dict.fromkeys(role for one in counted.values() for role in one.roles))
    speaks = _answering(roles, answers)
    fields = "" if found.field == USUAL_FIELD else f", fields = {{ turns = {quoted(found.field)} }}"
    data = [
        f"# {counted[name].dialogues:,} dialogues\n"
        f"{name} = {{ file = {place(path, output)}{fields} }}"
        for name, path in splits.items()
    ]
    data += [
        f"{f'answers = {quoted(speaks)}':<28} # the role whose turns are learned",
        "",
        "[data.roles]",
    ]
    data += [
        f"{key(role)} = {quoted(marker)}"
        for role, marker in zip(roles, _markers(roles), strict=True)
    ]
    write(output, _RECIPE, choose(found), data)


def _answering(roles: Sequence[str], answers: str | None) -> str:
    """The role that the model learns.

    Raises:
        InputError: it is none of them, or there is one role only.
    """
    if len(roles) < 2:
        raise InputError(f"only one role speaks in the dialogues: {', '.join(roles)}")
    if answers is not None and answers not in roles:
        raise InputError(
            f"no turn is of {answers!r}", where="--answers", hint=f"found: {', '.join(roles)}"
        )
    return answers or (USUAL_ROLE if USUAL_ROLE in roles else roles[1])


def _markers(roles: Sequence[str]) -> list[str]:
    """A marker for each role, of its letters where they can be."""
    names = [re.sub(r"[^a-z0-9]+", "-", role.lower()).strip("-") for role in roles]
    usable = all(names) and len(set(names)) == len(names)
    return [f"<|{name if usable else f'role{n}'}|>" for n, name in enumerate(names, start=1)]


@dataclass(frozen=True)
class Measured:
    """How much is said.

    Attributes:
        dialogues: how many.
        characters: of all turns.
        long: characters that 95 of 100 dialogues do not exceed.
        roles: in the order in which they first speak.
        field: that holds the turns.
    """

    dialogues: int
    characters: int
    long: int
    roles: Sequence[str]
    field: str


def measure(path: Path, field: str | None) -> Measured:
    """Count a file of dialogues.

    Raises:
        DataError: for a file that is missing, empty or holds something else.
    """
    from regard.data.readers import check_file
    from regard.data.readers.dialogues import turns_of
    from regard.data.readers.tables import read_records

    field = field or _field(check_file(path))
    sizes, roles = list[int](), dict[str, None]()
    for number, values in read_records(path, (field,)):
        if values is None:
            continue
        turns = turns_of(values[0], None, where=f"{path}:{number}")
        roles.update(dict.fromkeys(turn.role for turn in turns))
        sizes.append(sum(len(turn.text) for turn in turns))
    if not sizes:
        raise DataError("there is no dialogue in it", where=str(path))
    sizes.sort()
    return Measured(len(sizes), sum(sizes), sizes[int(0.95 * len(sizes))], list(roles), field)


def _field(path: Path) -> str:
    """The field of a file's first record that holds turns."""
    from regard.data.readers.tables import read_records

    records = read_records(path, (OTHER_FIELD,))
    try:
        next((values for _, values in records if values is not None), None)
    except DataError:
        return USUAL_FIELD
    return OTHER_FIELD


# Up to so many characters: entries of the vocabulary, preset, dropout, peak rate, tokens of a step,
# epochs aimed at, steps at most. The second row is the setting of the recipe sgd-dialogue.
_SIZES = (
    (500_000, (1_000, "nano-cpu", 0.2, 2e-3, 2_048, 15, 4_000)),
    (20_000_000, (4_000, "nano-cpu", 0.1, 2e-3, 4_096, 6, 20_000)),
    (500_000_000, (16_000, "nano", 0.1, 1e-3, 16_384, 3, 50_000)),
    (None, (32_000, "gpt2", 0.0, 3e-4, 65_536, 2, 200_000)),
)

A_TOKEN = 3.5
"""Characters that a token of dialogue has, with the markers."""

WINDOWS = (128, 256, 512, 1024)


def choose(train: Measured) -> Mapping[str, Any]:
    """Tokenizer, model and horizon for so many dialogues."""
    vocab, preset, dropout, peak, tokens, epochs, most = row_for(_SIZES, train.characters)
    window = next((one for one in WINDOWS if one * A_TOKEN >= train.long), WINDOWS[-1])
    accumulate = max(1, tokens // 16_384)
    steps = horizon(max(1, train.characters / A_TOKEN / tokens), epochs, most)
    return {
        **steps,
        "dialogues": f"{train.dialogues:,}",
        "characters": f"{train.characters:,}",
        "vocab_size": vocab,
        "preset": preset,
        "window": window,
        "dropout": dropout,
        "peak": peak,
        "warmup_steps": min(2_000, rounded(steps["max_steps"] / 20)),
        "batch_size": max(1, tokens // accumulate // window),
        "accumulate": accumulate,
        "epochs": f"{steps['epochs']:.0f}",
    }


_RECIPE = Template(
    """\
# Dialogue, written by `regard new` for $dialogues dialogues of $characters characters.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard chat runs/$stem
#
# All keys with their meanings: regard recipe schema --markdown

task = "dialogue"

[data]                       # paths are relative to this file; .gz and .zst may stay packed

[tokenizer]
kind = "bpe"                 # or bytes, chars, unigram
vocab_size = $vocab_size

[model]
preset = "$preset"           # nano-cpu, nano, gpt2 … ; or start_from = "runs/pretrained"
max_positions = $window      # tokens that the model reads; 95 of 100 dialogues fit, up to 1024
"""
    + TRAINING
    + """\
[decoding]
strategy = "sample"
temperature = 0.7
top_p = 0.95
"""
)
