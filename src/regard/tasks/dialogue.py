"""Dialogue: turns with roles in, a model that answers.

Data are JSON lines, each a list of turns (`regard.data.Dialogues`). The roles and their markers are
a declared table, ``data.roles``; a run keeps it as ``dialogue.json``. The model reads whole
dialogues, packed into blocks whose edges attention does not cross, and learns the answers alone:
loss and scores count the tokens of the turns of ``data.answers``, with the end token of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from regard.data import Codec, Dialogues, Source
from regard.errors import RecipeError
from regard.recipe import Recipe
from regard.tasks.blocks import SHOWN, BlockTask
from regard.tasks.chat import Chat
from regard.tasks.task import Report, Sample, Splits
from regard.tasks.turns import ANSWERS, USUAL, Counted, Roles, Script, read

FIELD = "turns"


class Dialogue(BlockTask):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "dialogue"
    verb: ClassVar[str] = "chat"
    unit: ClassVar[str] = "dialogues"
    uses: ClassVar[tuple[str, ...]] = ("data.roles", "data.answers")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        data = recipe.data
        try:
            self.roles = Roles(data.roles or USUAL, data.answers or ANSWERS)
        except RecipeError as error:
            where = recipe.place(error.where or "data.roles")
            raise RecipeError(error.what, where=where, hint=error.hint) from None

    def prepare(self, run: Path, report: Report) -> Splits:
        """As every task of blocks; the run keeps its roles."""
        self.roles.save(run)
        return super().prepare(run, report)

    def recall(self) -> None:
        """Read the run's roles."""
        self.roles = Roles.load(self.directory)

    @property
    def special(self) -> tuple[str, ...]:
        """The markers."""
        return tuple(self.roles.markers.values())

    def source(self, data: Mapping[str, Any]) -> Source:
        """The dialogues of a file.

        Raises:
            RecipeError: for keys that say no such file.
        """
        fields = data.get("fields") or {FIELD: FIELD}
        if not set(data) <= {"file", "fields"} or "file" not in data or set(fields) != {FIELD}:
            raise RecipeError(
                "a dialogue's data are one file, and the field that holds the turns",
                hint='such as { file = "talk.jsonl", fields = { turns = "messages" } }',
            )
        roles, answers = tuple(self.roles.markers), self.roles.answers
        return Dialogues(data["file"], field=str(fields[FIELD]), roles=roles, answers=answers)

    def codecs(self) -> Mapping[str, Codec]:
        """The turns as ids, and which of them are answers."""
        script = Script(self.roles, self.tokenizer)
        return {FIELD: script, "counted": Counted(script)}

    def apart(self, text: Source) -> bool:
        """Always."""
        return True

    def texts_in(self, example: str) -> Sequence[str]:
        """Of every turn."""
        return [turn.text for turn in read(example)]

    def predicted(self, example: str) -> Sequence[str]:
        """The answers."""
        return [turn.text for turn in read(example) if turn.role == self.roles.answers]

    def predictor(self, model: nn.Module) -> Chat:
        """The door by which users talk with the model."""
        return Chat(model, self.tokenizer, self.decoding(), self.roles)

    def sample(self, model: nn.Module, example: str) -> Sample:
        """The first answer of a dialogue that follows something."""
        turns, answers = read(example), self.roles.answers
        places = (n for n, turn in enumerate(turns) if n and turn.role == answers)
        place = next(places, 0)
        if not place:  # only a greeting
            return Sample("", turns[0].text, "")
        written = self.predictor(model).chat(
            turns[:place], strategy="greedy", max_new_tokens=min(SHOWN, self.longest // 2)
        )
        return Sample(turns[place - 1].text, turns[place].text, written)


TASK = Dialogue
