"""``regard average``: the mean of several checkpoints as a run of its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from regard.cli.files import refuse_existing
from regard.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from regard.recipe import Recipe


def average(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run to write; a new directory.")],
    last: Annotated[int | None, typer.Option(help="Average the last so many.", min=1)] = None,
    best: Annotated[
        int | None, typer.Option(help="Average the so many best on validation.", min=1)
    ] = None,
) -> None:
    """Average the weights of a run's checkpoints, which often translate better than any of them.

    The result is a run with one checkpoint: it translates, is scored and looked at like any other,
    and another run can start from it (`model.start_from`). The first run stays as it is.
    """
    if (last is None) == (best is None):
        raise typer.BadParameter("give one of --last and --best")
    refuse_existing(output)
    steps = write_average(run, output, last or best or 1, "last" if last else "best")
    typer.echo(f"wrote {output}: the mean of steps {', '.join(map(str, steps))}")
    typer.echo(f"next:  regard evaluate {output}")


def write_average(run: Path, output: Path, count: int, which: Literal["last", "best"]) -> list[int]:
    """Write the averaged run, whole or not at all; the steps that it is the mean of.

    Raises:
        RunError, CheckpointError: the run or a checkpoint of it cannot be used.
        InputError: it has fewer checkpoints.
    """
    from regard.recipe import Recipe
    from regard.run import Run

    opened = Run.open(run)
    found = len(opened.store.to_average(count, which))
    if found < count:
        raise InputError(
            f"has {found} checkpoint{'s' * (found != 1)} that can be averaged, not {count}",
            where=str(run),
            hint="training.checkpoint.keep says how many stay",
        )
    weights, steps = opened.average(count, which)
    said = f"The mean of the weights of {run.name} after steps {', '.join(map(str, steps))}."
    recipe, state = Recipe.load(run, settled=True), {"averaged": steps, "of": run.name}
    write_weights(run, output, recipe, weights, step=steps[-1], state=state, said=said)
    return steps


def write_weights(
    run: Path,
    output: Path,
    recipe: Recipe,
    weights: Mapping[str, Tensor],
    *,
    step: int = 0,
    state: Mapping[str, Any],
    said: str,
) -> None:
    """Write a run of one checkpoint that holds weights alone, whole or not at all.

    Args:
        run: whose tokenizers, labels and environment it has.
        output: a new directory.
        recipe: of the new run.
        weights: all of the model's.
        step: of the checkpoint.
        state: of the checkpoint.
        said: the first words of its card.
    """
    from regard.run import RECIPE, Run

    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        made = Run(partial)
        # One checkpoint is all there is: nothing is left to average when it is used.
        made.write(RECIPE, recipe.override({"training.checkpoint.average": 0}).dump())
        for path in run.glob("*.json"):  # tokenizers, labels, the environment
            shutil.copyfile(path, partial / path.name)
        made.store.save(step, {"model": weights}, state)
        made.write_card(_card(run, output, said, recipe.task))
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _card(run: Path, output: Path, said: str, task: str) -> str:
    from regard import registry

    return "\n".join(
        [
            f"# {output.name}",
            "",
            said,
            "",
            "```sh",
            f'regard {registry.task(task).verb or "look"} {output} "…"',
            f"regard evaluate {output} --versus {run}",
            "```",
            "",
        ]
    )
