"""Where recipes are: files, run directories, and those that come with regard."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from regard import registry
from regard.errors import RecipeError
from regard.recipe import text as toml


def builtin_names() -> list[str]:
    """The names of the recipes that come with regard."""
    found = (resources.files("regard") / "recipes").iterdir()
    return sorted(item.name.removesuffix(".toml") for item in found if item.name.endswith(".toml"))


def builtin_text(name: str) -> str:
    """The text of a built-in recipe, its comments included."""
    return (resources.files("regard") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def recipe_text(recipe: str | os.PathLike[str]) -> str:
    """The text of a recipe as it is written, its comments included."""
    return read_recipe(recipe)[1]


def is_run(recipe: str | os.PathLike[str]) -> bool:
    """Whether this is a directory with a recipe; any other may be called as a built-in one is."""
    return (Path(recipe) / "recipe.toml").exists()


def read_recipe(recipe: str | os.PathLike[str]) -> tuple[str, str, Path]:
    """Name, text and base directory of a recipe."""
    path = Path(recipe)
    if is_run(path):
        path = path / "recipe.toml"
    if path.is_file():
        return str(path), toml.read(path), path.parent
    known = builtin_names()
    name = os.fspath(recipe)
    if name in known:
        return name, builtin_text(name), Path.cwd()
    near = registry.nearest(name.removesuffix(".toml"), known)
    raise RecipeError(
        "there is no such recipe: neither a file, nor a run directory, nor a built-in recipe",
        where=name,
        hint=(f"did you mean {near!r}? " if near else "") + f"built in: {', '.join(known)}",
    )
