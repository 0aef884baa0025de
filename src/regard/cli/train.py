"""``regard train``: a recipe in, a run out, watched as it goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="a recipe file, the name of a built-in one (regard recipe list), or a run",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="settings to change: training.seed=2 …"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="run directory; default: runs/NAME of the recipe")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the same run from its newest checkpoint")
    ] = False,
) -> None:
    """Train what a recipe says.

    regard train recipe.toml training.seed=2 --run runs/second

    Ctrl-C saves and stops; the same command with --resume goes on to the same bits as if nothing
    had happened. To start a new run from the weights of another: model.start_from=runs/first.

    On several GPUs: torchrun --nproc-per-node 2 -m -- regard train recipe.toml --run runs/first
    """
    from regard import workflow
    from regard.cli.progress import listener

    shown = listener()
    try:
        done = workflow.train(recipe, settings, run=run, resume=resume, listeners=[shown], say=_say)
    finally:
        shown.close()
    if done.result is not None and done.result.exit_status:
        _say(f"saved; go on with: regard train {done.path} --resume")
        raise typer.Exit(done.result.exit_status)
    _say(f"done: {done.path}")


def _say(line: str) -> None:
    """Of several ranks only the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)
