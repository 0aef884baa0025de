"""Dialogues: JSON lines, each a list of turns with their roles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regard.data.readers.lines import check_file, display_name
from regard.data.readers.source import Example
from regard.data.readers.tables import read_records, text_of
from regard.errors import DataError
from regard.registry import nearest

ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst")


class Turn(NamedTuple):
    """What one side says."""

    role: str
    text: str


class Dialogues:
    """The dialogues of a JSON-lines file, each in one field of its object.

    A turn is ``[role, text]`` or ``{"role": …, "content": …}``. An example holds its turns as JSON
    in that first form, once to be encoded and once to say which tokens count.

    Args:
        path: a ``.jsonl`` file, also ``.gz`` or ``.zst``.
        field: that holds the turns.
        roles: the known ones.
        answers: the role that each dialogue needs a turn of.

    Raises:
        DataError: the file is missing or of another kind; while reading: a line is no such
            dialogue.
    """

    columns = ("turns", "counted")

    def __init__(self, path: str | Path, *, field: str, roles: Sequence[str], answers: str) -> None:
        self.path = check_file(path)
        if not self.path.name.lower().endswith(ENDINGS):
            raise DataError(
                "dialogues are read from JSON lines, a dialogue a line",
                where=str(path),
                hint='name it .jsonl; a line: {"turns": [["user", "Hi"], ["assistant", "Hello"]]}',
            )
        self.field, self.roles, self.answers = field, tuple(roles), answers
        self.files = (self.path,)
        self.identity: Mapping[str, Any] = {"format": "dialogues", "field": field}

    def __iter__(self) -> Iterator[Example]:
        name = display_name(self.path)
        for number, values in read_records(self.path, (self.field,)):
            if values is None:
                yield Example(("", ""), name, number)
                continue
            where = f"{self.path}:{number}"
            turns = turns_of(values[0], self.roles, where=where)
            if all(turn.role != self.answers for turn in turns):
                raise DataError(
                    f"the dialogue has no answer: no turn of {self.answers!r}",
                    where=where,
                    hint="leave it out, or name the role that answers: data.answers",
                )
            text = json.dumps(turns, ensure_ascii=False)
            yield Example((text, text), name, number)


def turns_of(value: Any, roles: Sequence[str] | None, *, where: str) -> list[Turn]:
    """Turns as JSON has them, checked.

    Args:
        value: a list of ``[role, text]`` or ``{"role": …, "content": …}``.
        roles: the known ones; None: any.
        where: for messages.

    Raises:
        DataError: it is no such list, has no turn, or a turn is empty or of an unknown role.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise DataError(
            "a dialogue is a list of turns, at least one",
            where=where,
            hint='such as [["user", "Hi"], ["assistant", "Hello"]]',
        )
    found = []
    for number, one in enumerate(value, start=1):
        if isinstance(one, Mapping) and {"role", "content"} <= one.keys():
            one = (one["role"], one["content"])
        if not isinstance(one, Sequence) or isinstance(one, str) or len(one) != 2:
            raise DataError(
                f"turn {number} is neither [role, text] nor an object with role and content",
                where=where,
            )
        role, text = one
        if not isinstance(role, str) or (roles is not None and role not in roles):
            roles = roles or ()
            near = nearest(str(role), roles)
            raise DataError(
                f"turn {number} has the unknown role {role!r}",
                where=where,
                hint=(f"did you mean {near!r}? " if near else "")
                + f"known: {', '.join(roles)}; data.roles declares them",
            )
        text = text_of(text, f"content of turn {number}", where)
        if not text.strip():
            raise DataError(f"turn {number}, of {role!r}, is empty", where=where)
        found.append(Turn(role, text))
    return found
