"""``regard recipe list|show|schema``."""

from __future__ import annotations

from typing import Annotated

import typer

from regard import recipe as recipes
from regard.cli.output import print_json, print_table
from regard.cli.verbs import make_app

app = make_app(
    no_args_is_help=True,
    help="""Recipes: TOML files that say all of a run.

    A recipe is named wherever one is wanted, as a file or by its built-in name, and any of its keys
    can be set behind it: `regard train multi30k-en-de training.seed=2`""",
)


@app.command("list")
def list_recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name the recipes that come with regard."""
    found = {name: _summary(recipes.builtin_text(name)) for name in recipes.builtin_names()}
    if as_json:
        print_json([{"name": name, "about": about} for name, about in found.items()])
    else:
        print_table(["recipe", "about"], found.items())


@app.command()
def show(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A file, a built-in name, or a run.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys set otherwise.")
    ] = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Say every key, defaults and preset included.")
    ] = False,
) -> None:
    """Print a recipe: as it is written, or with every key said.

    A good start for one of your own: `regard recipe show multi30k-en-de > mine.toml`
    """
    found = recipes.Recipe.load(recipe, settings)
    if resolved:
        found = found.spelled_out()
    text = found.dump() if resolved or settings else recipes.recipe_text(recipe)
    typer.echo(text, nl=False)


@app.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table of the keys for people instead.")
    ] = False,
) -> None:
    """Print the JSON schema of recipes, for editors that check and complete TOML.

    For taplo and VS Code's "Even Better TOML", write it to a file, and let the first line of your
    recipe be `#:schema ./recipe.schema.json`
    """
    found = recipes.json_schema()
    if markdown:
        typer.echo(recipes.markdown_table(found), nl=False)
    else:
        print_json(found)


def _summary(text: str) -> str:
    """A recipe's first sentence, out of its opening comment."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:].strip())
    return " ".join(lines).partition(". ")[0].rstrip(".:") + "."
