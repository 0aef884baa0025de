"""The scores of a run, and beside another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regard.errors import InputError, RecipeError
from regard.load import open_task
from regard.metrics import Comparison, Score
from regard.tasks.text import with_columns

RESAMPLES = 1000


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of a run on one data set, and beside another run's where asked for.

    Attributes:
        run, versus: directories.
        weights: which of the run's were scored, in words.
        examples: how many were scored.
        left_out: how many more could not be read, where such are left out.
        seconds: that decoding took.
        scores: by metric, with signature and 95 % interval.
        comparisons: paired tests against ``versus``, where the task has one.
        versus_scores: of ``versus``.
    """

    run: str
    weights: str
    examples: int
    seconds: float
    scores: Mapping[str, Score]
    versus: str | None = None
    comparisons: Sequence[Comparison] = field(default_factory=tuple)
    versus_scores: Mapping[str, Score] = field(default_factory=dict)
    left_out: int = 0

    def __str__(self) -> str:
        return "\n".join(
            f"{score.name} {score.value:.2f} ({score.signature})" for score in self.scores.values()
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": self.run,
            "weights": self.weights,
            "examples": self.examples,
            "left_out": self.left_out,
            "seconds": round(self.seconds, 2),
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "versus": self.versus,
            "versus_scores": {name: one.to_dict() for name, one in self.versus_scores.items()},
            "comparisons": [
                {
                    "name": one.name,
                    "run": one.system.value,
                    "versus": one.baseline.value,
                    "difference": one.difference,
                    "p_value": one.p_value,
                    "signature": one.signature,
                }
                for one in self.comparisons
            ],
        }


def evaluate(
    run: str | Path,
    data: Mapping[str, Any] | None = None,
    *,
    versus: str | Path | None = None,
    beam: int | None = None,
    prefix: str | None = None,
    precision: Any = None,
    device: str = "auto",
    checkpoint: str | int = "auto",
) -> EvaluationReport:
    """Score a run on its test data, or on ``data`` in the recipe's words.

    Args:
        run: the run directory.
        data: e.g. ``{"source": F, "target": F}``; of pictures also ``"broken": "skip"``, which
            leaves out and counts those that cannot be read, and may stand alone.
        versus: another run on the same data, for a paired test.
        prefix: text to text: what stands before each source.
        beam, precision, device: otherwise than the recipe says.
        checkpoint: of ``run``; see `regard.load`.

    Raises:
        RegardError: what is wrong, where, and what to do.
    """
    task, model, weights = open_task(run, precision=precision, device=device, checkpoint=checkpoint)
    if not (data or {}).keys() - {"broken"} and not task.recipe.has("test"):
        raise RecipeError(
            "the run's recipe names no test data",
            where="data.test",
            hint="give it: --data file=FOLDER, or an archive or a table"
            if task.inputs == "pictures"
            else "give files: --source FILE --target FILE, or --data file=FILE for a table",
        )
    if prefix is not None:
        data = _prefixed(task, data, prefix)
    examples = task.read(with_columns(task.recipe, data), split="test")
    options = {"beam": beam}
    found = task.evaluate(model, examples, options, resamples=RESAMPLES)
    comparisons: Sequence[Comparison] = ()
    theirs: Mapping[str, Score] = {}
    if versus is not None:
        other_task, other, _ = open_task(versus, precision=precision, device=device)
        if other_task.name != task.name:
            raise InputError(f"is a run of {other_task.name}, not {task.name}", where=str(versus))
        other_found = other_task.evaluate(other, examples, options)
        comparisons, theirs = task.compare(examples, found, other_found), other_found.scores
    name = None if versus is None else str(versus)
    return EvaluationReport(
        str(run),
        weights,
        len(examples),
        found.seconds,
        found.scores,
        name,
        comparisons,
        theirs,
        examples.left_out,
    )


def _prefixed(task: Any, data: Mapping[str, Any] | None, prefix: str) -> Mapping[str, Any]:
    """Data in the recipe's words with what stands before each source.

    Raises:
        InputError: the task has none, or each part of its test data has its own.
    """
    if "data.prefix" not in task.uses:
        raise InputError(f"a run of {task.name} reads no prefix", where="prefix")
    if data is None and task.recipe.mixture:
        raise InputError(
            "each task of the mixture has its own",
            where="prefix",
            hint="leave it out, or give files: --source FILE --target FILE",
        )
    given = task.recipe.data_of("test").settings() if data is None else data
    return {**given, "prefix": prefix}
