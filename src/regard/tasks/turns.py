"""Roles and their markers, and how turns become the tokens that a model reads.

Each turn is its role's marker, its text and the end token. A marker that is a special entry of the
tokenizer is one token, which no text can make; where the tokenizer, another run's, has no such
entry, the marker is read as text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from regard.data import Tokenizer, Turn
from regard.errors import RecipeError, RunError
from regard.files import write_text

FILE = "dialogue.json"
FORMAT = 1
USUAL = {"user": "<|user|>", "assistant": "<|assistant|>"}
ANSWERS = "assistant"


@dataclass(frozen=True)
class Roles:
    """The declared table of a run's dialogues.

    Attributes:
        markers: of each role, what stands before its turns.
        answers: the role that the model speaks.

    Raises:
        RecipeError: fewer than two roles, two with one marker, or none that answers.
    """

    markers: Mapping[str, str]
    answers: str = ANSWERS

    def __post_init__(self) -> None:
        where = "data.roles"
        if len(self.markers) < 2 or len(set(self.markers.values())) < len(self.markers):
            raise RecipeError(
                "a dialogue has two roles or more, each with a marker of its own",
                where=where,
                hint=f"such as roles = {{ user = {USUAL['user']!r}, … }}",
            )
        if not all(marker.strip() for marker in self.markers.values()):
            raise RecipeError("a role's marker is empty", where=where)
        if self.answers not in self.markers:
            raise RecipeError(
                f"{self.answers!r} is none of the roles",
                where="data.answers",
                hint=f"known: {', '.join(self.markers)}",
            )

    @property
    def asks(self) -> str:
        """The role of who talks with the model: the first of the others."""
        return next(role for role in self.markers if role != self.answers)

    def save(self, run: Path) -> None:
        """Write the table into a run."""
        table = {"format": FORMAT, "roles": dict(self.markers), "answers": self.answers}
        write_text(run / FILE, json.dumps(table, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, run: Path) -> Roles:
        """The table of a run.

        Raises:
            RunError: it is missing, damaged or of a newer format.
        """
        path = run / FILE
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            if int(table["format"]) > FORMAT:
                raise RunError(
                    f"the table has format {table['format']}, this regard knows up to {FORMAT}",
                    where=str(path),
                    hint="install a newer regard",
                )
            markers = {str(role): str(marker) for role, marker in table["roles"].items()}
            return cls(markers, str(table["answers"]))
        except OSError as error:
            raise RunError(
                f"the roles cannot be read: {error.strerror}", where=str(path)
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError("the table of roles is damaged", where=str(path)) from error


class Script:
    """Turns as token ids; an encoder of dialogues in JSON, as `Dialogues` gives them.

    Args:
        roles: the declared table.
        tokenizer: of the texts.

    Attributes:
        markers: the ids of each role's.
        special_ids: of the markers that are tokens of their own.
    """

    def __init__(self, roles: Roles, tokenizer: Tokenizer) -> None:
        self.roles = roles
        self.tokenizer = tokenizer
        special = {text: tokenizer.id_of(text) for text in tokenizer.extra}
        found = {role: special.get(text) for role, text in roles.markers.items()}
        self.special_ids = {i for i in found.values() if i is not None}
        self.markers = {
            role: tokenizer.encode(roles.markers[role]) if i is None else [i]
            for role, i in found.items()
        }

    @property
    def opening(self) -> list[int]:
        """What the model answers after."""
        return self.markers[self.roles.answers]

    def parts(self, turns: Sequence[Turn]) -> list[tuple[list[int], bool]]:
        """The ids of a dialogue, in parts that count as answers or do not."""
        texts = self.tokenizer.encode_batch([turn.text for turn in turns])
        found = []
        for turn, ids in zip(turns, texts, strict=True):
            found.append((self.markers[turn.role], False))
            found.append(([*ids, self.tokenizer.end_id], turn.role == self.roles.answers))
        return found

    def ids(self, turns: Sequence[Turn]) -> list[int]:
        """The ids of a dialogue."""
        return [i for ids, _ in self.parts(turns) for i in ids]

    @property
    def vocab_size(self) -> int:
        """The tokenizer's."""
        return self.tokenizer.vocab_size

    @cached_property
    def fingerprint(self) -> str:
        """What decides the ids."""
        table = json.dumps([dict(self.roles.markers), self.roles.answers], ensure_ascii=False)
        return hashlib.sha256(f"{self.tokenizer.fingerprint} {table}".encode()).hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each dialogue."""
        return [self.ids(turns) for turns in map(read, texts)]


class Counted:
    """Which ids of a `Script` the model learns: 1 for those of answers with their ends, else 0."""

    vocab_size = 2

    def __init__(self, script: Script) -> None:
        self.script = script
        self.fingerprint = f"counted {script.fingerprint}"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """A 0 or 1 for each id of each dialogue."""
        parts = (self.script.parts(turns) for turns in map(read, texts))
        return [[int(counts) for ids, counts in one for _ in ids] for one in parts]


def read(text: str) -> list[Turn]:
    """The turns that an example of `Dialogues` holds."""
    return [Turn(*pair) for pair in json.loads(text)]
