"""What is wrong with a recipe, in words: the key, its line, the nearest key that exists."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from regard.errors import RecipeError
from regard.recipe import text as toml
from regard.recipe.sections import RecipeModel
from regard.registry import nearest

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "model_type": "a table of settings",
    "dict_type": "a table of settings",
    "list_type": "a list",
    "tuple_type": "a list",
}


@dataclass(frozen=True)
class Source:
    """Where a recipe's settings were written.

    Attributes:
        name: the file, or the built-in recipe's name.
        text: what stands there.
        given: the settings of the command line or of a call, which no file holds.
        given_by: which of them.
    """

    name: str = "recipe"
    text: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    given_by: str = "command line"

    def place(self, key: tuple[str, ...]) -> str:
        """The key with its file and line, as errors name it."""
        dotted = ".".join(key)
        if _holds(self.given, key):
            return f"{self.given_by}: {dotted}"
        line = toml.line_of(self.text, key)
        return f"{self.name}:{line}: {dotted}" if line else f"{self.name}: {dotted}"


def _holds(settings: Mapping[str, Any], key: tuple[str, ...]) -> bool:
    held: Any = settings
    for part in key:
        if not isinstance(held, Mapping):
            return True  # a value stands where a table is needed
        if part not in held:
            return False
        held = held[part]
    return bool(key)


def translate(error: ValidationError, source: Source, settings: Mapping[str, Any]) -> RecipeError:
    """pydantic's complaints as one error that a reader can act on."""
    found: dict[tuple[str, ...], tuple[str, str | None]] = {}
    for fault in error.errors():
        key = _key(fault, settings)
        if key in found:  # the branches of a union: what it may be says the description
            found[key] = (found[key][0], _description(key))
        else:
            found[key] = _words(key, dict(fault))
    if len(found) == 1:
        [(key, (what, hint))] = found.items()
        return RecipeError(what, where=source.place(key), hint=hint)
    lines = [
        f"{source.place(key)}: {what}" + (f" ({hint})" if hint else "")
        for key, (what, hint) in found.items()
    ]
    return RecipeError("\n  ".join([f"{len(found)} keys are wrong:", *lines]), where=source.name)


def _key(fault: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The fault's key: pydantic adds the branches of a union, which no recipe has.

    The tables of a list count from 1.
    """
    parts = [str(part + 1) if isinstance(part, int) else str(part) for part in fault["loc"]]
    if fault["type"] in ("missing", "extra_forbidden"):
        return tuple(parts)
    held: Any = settings
    for depth, part in enumerate(fault["loc"]):
        inside = isinstance(held, Mapping) and part in held
        table = isinstance(held, list) and isinstance(part, int) and isinstance(held[part], Mapping)
        if not inside and not table:
            return tuple(parts[:depth])
        held = held[part]
    return tuple(parts)


def _words(key: tuple[str, ...], fault: Mapping[str, Any]) -> tuple[str, str | None]:
    """What is wrong, and a hint."""
    kind, given = str(fault["type"]), fault.get("input")
    if kind == "missing":
        return "this key is needed", _description(key)
    if kind == "extra_forbidden":
        return "unknown key", _nearest_key(key)
    if kind == "value_error":
        return str(fault["ctx"]["error"]), None
    if kind in _WANTED:
        hint = 'write text as "…"' if kind == "string_type" else None
        return f"must be {_WANTED[kind]}, not {given!r}", hint
    if kind == "literal_error":
        known = str(fault["ctx"]["expected"])
        near = nearest(str(given), known.replace("'", "").replace(" or ", ", ").split(", "))
        return f"must be {known}, not {given!r}", f"did you mean {near!r}?" if near else None
    message = str(fault["msg"]).removeprefix("Input ").removeprefix("should ")
    return f"must {message}, not {given!r}", None


def _nearest_key(key: tuple[str, ...]) -> str:
    """The key that was meant: of the same table, or of the same name in another one."""
    *table, name = key
    model = model_at(tuple(table))
    known = list(model.model_fields) if model else []
    prefix = ".".join([*table, ""])
    if near := nearest(name, known):
        return f"did you mean {prefix}{near}?"
    elsewhere = [dotted for dotted in all_keys() if dotted.split(".")[-1] == name]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"known here: {', '.join(known)}"


def _description(key: tuple[str, ...]) -> str | None:
    model = model_at(key[:-1])
    info = model.model_fields.get(key[-1]) if model and key else None
    return info.description if info else None


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where it may be None."""
    options = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = list(typing.get_args(annotation))
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def model_at(path: tuple[str, ...]) -> type[BaseModel] | None:
    """The section at a dotted path; None where there is none."""
    model: type[BaseModel] | None = RecipeModel
    for part in path:
        if part.isdecimal():  # of a list, all of whose tables are alike
            continue
        info = model.model_fields.get(part) if model else None
        model = inner_model(info.annotation) or _listed(info.annotation) if info else None
    return model


def _listed(annotation: Any) -> type[BaseModel] | None:
    """The section that the tables of a list are."""
    inner = (one for option in typing.get_args(annotation) for one in typing.get_args(option))
    return next((found for one in inner if (found := inner_model(one))), None)


def all_keys(model: type[BaseModel] = RecipeModel, prefix: str = "") -> Iterator[str]:
    """Every dotted key that the sections know."""
    for name, info in model.model_fields.items():
        inner = inner_model(info.annotation)
        if inner is None:
            yield f"{prefix}{name}"
        else:
            yield from all_keys(inner, f"{prefix}{name}.")
