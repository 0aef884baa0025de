"""Runs read back from their directories: recipe and metrics, also while they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.errors import RegardError, RunError
from regard.recipe import Recipe
from regard.run import Run
from regard.training import higher_is_better

Say = Callable[[str], None]

DEPTH = 3
"""Directories down that runs are looked for."""


@dataclass(frozen=True)
class History:
    """What a run's files say of it.

    Attributes:
        name: its directory, relative to where runs were looked for.
        recipe: the resolved one.
        steps: the lines of metrics of training, in order.
        evaluations: those of evaluations.
    """

    name: str
    path: Path
    recipe: Recipe
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]

    @property
    def step(self) -> int:
        """The last step that has a line."""
        last = [lines[-1]["step"] for lines in (self.steps, self.evaluations) if lines]
        return max(last, default=0)

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the best of the recipe's metric, the earliest of equals."""
        metric = self.recipe.evaluation.metric
        scored = [line for line in self.evaluations if metric in line["scores"]]
        if not scored:
            return None
        sign = -1 if higher_is_better(metric) else 1
        return min(scored, key=lambda line: sign * float(line["scores"][metric]))

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a training term, or of an evaluation's score as ``valid/NAME``."""
        valid = name.startswith("valid/")
        key, lines = name.removeprefix("valid/"), self.evaluations if valid else self.steps
        table = "scores" if valid else "terms"
        found = [(line["step"], line[table][key]) for line in lines if key in line[table]]
        return [step for step, _ in found], [float(value) for _, value in found]


def find_runs(directory: Path, warn: Say) -> list[History]:
    """The runs in a directory and below, by name; the directory itself may be one.

    Args:
        directory: where to look.
        warn: told of what is damaged, and left out.

    Raises:
        RunError: there is no such directory, or no run in it.
    """
    if not directory.is_dir():
        raise RunError("there is no such directory", where=str(directory))
    levels = ["/".join(["*"] * depth + ["recipe.toml"]) for depth in range(DEPTH + 1)]
    recipes = {path for level in levels for path in directory.glob(level)}
    found = []
    for path in sorted(recipes):
        try:
            found.append(read_run(path.parent, directory, warn))
        except RegardError as error:
            warn(f"{path.parent} is left out: {error}")
    if not found:
        raise RunError(
            "there is no run here",
            where=str(directory),
            hint="a run is a directory with a recipe.toml, as regard train makes it",
        )
    return found


def read_run(path: Path, base: Path, warn: Say) -> History:
    """One run.

    Raises:
        RecipeError: its recipe is damaged.
    """
    lines = Run(path).metrics(warn)
    name = str(path.relative_to(base)) if path != base else path.resolve().name
    return History(
        name=name,
        path=path,
        recipe=Recipe.load(path, settled=True),
        steps=[line for line in lines if line.get("event") == "step"],
        evaluations=[line for line in lines if line.get("event") == "evaluation"],
    )
