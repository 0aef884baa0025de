"""``regard runs``: what was trained, with scores, differences and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.curves import check_format, draw_curves
from regard.cli.files import refuse_existing
from regard.cli.history import History, find_runs
from regard.cli.output import print_json, print_table, warning
from regard.recipe.layers import flatten


def runs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Runs, or one run.")] = Path(
        "runs"
    ),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw curves: .png, .svg or .pdf, new.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs with their best scores and in what their recipes differ; draw their curves.

    Works while runs are training, too.
    """
    if output is not None:
        refuse_existing(output)
        check_format(output)
    found = find_runs(directory, warning)
    differing = _differing(found)
    if as_json:
        print_json([_record(run, differing) for run in found])
    else:
        print_table(*_table(found, differing))
        if differing:
            typer.echo("what differs in their recipes, in the order above:")
        for line in _differences(found, differing):
            typer.echo(f"  {line}")
    if output is not None:
        draw_curves(found, output)
        typer.echo(f"wrote {output}", err=as_json)


def _differing(found: Sequence[History]) -> list[str]:
    """The recipe keys that are not the same in all of the runs, paths apart."""
    recipes = [flatten(run.recipe.settings()) for run in found]
    keys = sorted({key for recipe in recipes for key in recipe if not key.startswith("data.")})
    return [key for key in keys if any(r.get(key) != recipes[0].get(key) for r in recipes)]


def _record(run: History, differing: Sequence[str]) -> dict[str, Any]:
    settings = flatten(run.recipe.settings())
    best, speeds = run.best, [line["tokens_per_second"] for line in run.steps]
    return {
        "run": run.name,
        "path": str(run.path),
        "task": run.recipe.task,
        "step": run.step,
        "max_steps": run.recipe.training.max_steps,
        "max_epochs": run.recipe.training.max_epochs,
        "metric": run.recipe.evaluation.metric,
        "best_step": best["step"] if best else None,
        "scores": best["scores"] if best else {},
        "train_loss": run.steps[-1]["terms"].get("loss") if run.steps else None,
        "tokens_per_second": sum(speeds) / len(speeds) if speeds else None,
        "differs_in": {key: settings.get(key) for key in differing},
    }


def _table(found: Sequence[History], differing: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    records = [_record(run, differing) for run in found]
    metrics = list(dict.fromkeys(name for record in records for name in record["scores"]))
    rows = []
    for record in records:
        end = record["max_steps"] or f"{record['max_epochs']} epochs"
        best = "-" if record["best_step"] is None else str(record["best_step"])
        row = [record["run"], f"{record['step']} of {end}", _figure(record["train_loss"]), best]
        row += [_figure(record["scores"].get(name)) for name in metrics]
        row.append(_figure(record["tokens_per_second"]))
        rows.append(row)
    return ["run", "step", "train loss", "best at", *metrics, "tokens/s"], rows


def _differences(found: Sequence[History], differing: Sequence[str]) -> list[str]:
    """A line for each key that is not the same in all runs, with what each run has."""
    recipes = [flatten(run.recipe.settings()) for run in found]
    return [
        f"{key}: " + ", ".join(str(recipe.get(key, "-")) for recipe in recipes) for key in differing
    ]


def _figure(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
