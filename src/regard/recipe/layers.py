"""Layers of settings over each other: defaults < recipe < command line; paths made absolute."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from regard.errors import RecipeError
from regard.recipe import text
from regard.recipe.sections import ALTERNATIVES
from regard.spec import STACK_WIDE, merge, nest

SPLITS = ("train", "valid", "test")
SPLIT_PATHS = ("source", "target", "file")

WHOLE = (("data", "roles"),)
"""Tables that a higher layer replaces, not completes."""

Overrides = Iterable[str] | Mapping[str, Any]


def overlay(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """``upper`` over ``lower``, key by key; what it gives replaces its alternatives below."""
    if path[:1] == ("model",):
        return merge(_without_replaced(lower, upper), upper)
    result = dict(lower)
    for forms in ALTERNATIVES.get(".".join(path), ()):
        chosen = [form for form in forms if any(key in upper for key in form)]
        if len(chosen) == 1:
            dropped = {key for form in forms if form is not chosen[0] for key in form}
            result = {key: value for key, value in result.items() if key not in dropped}
    for key, value in upper.items():
        old = result.get(key)
        if isinstance(value, Mapping) and (*path, key) not in WHOLE:
            held = old if isinstance(old, Mapping) else {}
            result[key] = overlay(held, value, (*path, key))
        else:
            result[key] = value
    return result


def _without_replaced(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """A lower model table without what a higher one replaces by another key.

    ``layer.dropout`` given above is every stack's, whatever ``encoder.layer.dropout`` says below;
    a preset and ``start_from`` take each other's place.
    """
    result = dict(lower)
    for one, other in (("preset", "start_from"), ("start_from", "preset")):
        if one in upper and other not in upper:
            result.pop(other, None)
    shared = {key: upper[key] for key in STACK_WIDE if key in upper}
    for key, held in lower.items():
        if key not in STACK_WIDE and isinstance(held, Mapping):
            result[key] = _without(held, shared)
    return result


def _without(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that ``given`` does not say."""
    result = {}
    for key, value in settings.items():
        if key not in given:
            result[key] = value
        elif isinstance(value, Mapping) and isinstance(given[key], Mapping):
            result[key] = _without(value, given[key])
    return result


def parse_overrides(overrides: Overrides | None) -> dict[str, Any]:
    """Overrides as nested settings: ``["training.seed=2"]`` or ``{"training.seed": 2}``.

    Raises:
        RecipeError: for text without a key and an equals sign.
    """
    if overrides is None:
        return {}
    if isinstance(overrides, Mapping):
        return nest({key: _plain(value) for key, value in overrides.items()})
    result: dict[str, Any] = {}
    for item in overrides:
        key, equals, written = item.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise RecipeError(
                f"{item!r} is no setting",
                where="command line",
                hint="write key=value, e.g. training.seed=2",
            )
        path = ".".join(part.strip() for part in key.split("."))
        # Of the model's keys those beside each other do not replace each other, as in a file.
        lay = merge if path.startswith("model.") else overlay
        result = lay(result, nest({path: text.value(written.strip())}))
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    return value


def with_absolute_paths(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """File names of data, cache and start_from, relative to ``base``, made absolute."""
    result = merge(settings)
    places = [(("data", split), key) for split in SPLITS for key in SPLIT_PATHS]
    for path, key in [*places, (("data",), "cache"), (("model",), "start_from")]:
        table: Any = result
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key] != "-":
            table[key] = os.path.abspath(base / os.path.expanduser(table[key]))
    if isinstance(mixture := result.get("mixture"), list):
        result["mixture"] = [
            with_absolute_paths({"data": one}, base)["data"] if isinstance(one, Mapping) else one
            for one in mixture
        ]
    return result


def with_derived_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that depend on other keys, under the settings."""
    training, evaluation = _table(settings, "training"), _table(settings, "evaluation")
    derived: dict[str, Any] = {}
    if "batch_tokens" not in training and "batch_size" not in training:
        derived = {"training": {"batch_tokens": 4096}}
    period = {key: evaluation[key] for key in ("every_steps", "every_epochs") if key in evaluation}
    if not period:
        period = {"every_epochs": 1}
        derived = overlay(derived, {"evaluation": period})
    if not {"every_steps", "every_epochs"} & set(_table(training, "checkpoint")):
        derived = overlay(derived, {"training": {"checkpoint": period}})
    return overlay(derived, settings)


def _table(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    held = settings.get(key)
    return held if isinstance(held, Mapping) else {}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
