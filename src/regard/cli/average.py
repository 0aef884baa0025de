"""``regard average``: the mean of several checkpoints as a run of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from regard.cli.files import refuse_existing
from regard.errors import InputError


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
    from regard import registry
    from regard.recipe import Recipe
    from regard.run import RECIPE, Run

    opened = Run.open(run)
    found = len(opened.store.to_average(count, which))
    if found < count:
        raise InputError(
            f"has {found} checkpoint{'s' * (found != 1)} that can be averaged, not {count}",
            where=str(run),
            hint="training.checkpoint.keep says how many stay",
        )
    weights, steps = opened.average(count, which)
    # One checkpoint is all there is: nothing is left to average when it is used.
    recipe = Recipe.load(run, {"training.checkpoint.average": 0}, settled=True)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        made = Run(partial)
        made.write(RECIPE, recipe.dump())
        for path in [*run.glob("tokenizer*.json"), run / "environment.json"]:
            if path.exists():
                shutil.copyfile(path, partial / path.name)
        made.store.save(steps[-1], {"model": weights}, {"averaged": steps, "of": run.name})
        verb = registry.task(recipe.task).verb
        made.write_card(_card(run, output, steps, verb))
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return steps


def _card(run: Path, output: Path, steps: list[int], verb: str) -> str:
    return "\n".join(
        [
            f"# {output.name}",
            "",
            f"The mean of the weights of {run.name} after steps {', '.join(map(str, steps))}.",
            "",
            "```sh",
            f'regard {verb} {output} "…"',
            f"regard evaluate {output} --versus {run}",
            "```",
            "",
        ]
    )
