"""``regard check``: everything a run needs, tried before it starts."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer


def check(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="a recipe file, or a built-in one's name")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="settings to change: training.seed=2 …"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Try keys, files, tokenizer, memory of the worst batch, one step, save → load → decode.

    regard check recipe.toml
    """
    from rich.text import Text

    from regard.check import check as run_checks
    from regard.cli.output import console

    say = console().print
    for row in run_checks(recipe, settings):
        if as_json:
            line = {"what": row.what, "seen": row.seen, **row.values}
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            say(Text.assemble((f"{row.what:>26}  ", "bold"), row.seen))
    if not as_json:
        command = shlex.join(["regard", "train", recipe, *(settings or [])])
        say(f"\nall is well; start with: {command}")
