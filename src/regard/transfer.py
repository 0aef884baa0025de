"""What a run takes over from another, and what of its model trains."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from regard import registry
from regard.errors import CheckpointError, RecipeError
from regard.nn.adapters import add_adapters, merge_adapters
from regard.nn.patches import PatchEmbedding
from regard.nn.positions import Grid
from regard.recipe import Recipe
from regard.recipe.transfer import AdapterSpec
from regard.run import Run
from regard.training.state import load_tensors

ADAPTER = "adapter"
"""What a file of trained weights says of the adapters in it."""

HEAD = "head."


class Plain(NamedTuple):
    """A run's model without adapters.

    Attributes:
        model: with its weights; adapters are merged into them.
        recipe: the run's.
        weights: which they are, in words.
    """

    model: nn.Module
    recipe: Recipe
    weights: str


def plain_model(run: str | Path, checkpoint: str | int = "auto") -> Plain:
    """The model of a run, on the CPU; see `regard.load` for ``checkpoint``."""
    opened = Run.open(run)
    recipe = Recipe.load(opened.path, settled=True)
    model: nn.Module = registry.family(recipe.family).model(recipe.model_config_for())
    adapt(recipe, model)
    weights = opened.load_weights(model, checkpoint)
    merge_adapters(model)
    return Plain(model, recipe, weights)


def adapt(recipe: Recipe, model: nn.Module) -> None:
    """Put the recipe's adapters, if it asks for any, into a model that is made."""
    if (spec := recipe.adapter) is not None:
        add_adapters(model, *spec.resolve("model.adapter"))


def take_over(
    recipe: Recipe,
    model: nn.Module,
    kept: Collection[str] | None = None,
    *,
    new_head: bool = False,
) -> list[str]:
    """Fill a new model with the weights it starts from, add adapters, say what trains.

    Args:
        recipe: of the run.
        model: changed in place.
        kept: names of the weights that do not train, where the run goes on and will bring its
            own; None for a new run.
        new_head: a head there answers something else: it is not taken.

    Returns:
        Lines worth reading: where tensors came from, and how many numbers train.
    """
    lines: list[str] = []
    still = set(kept or ())
    if kept is None:
        still = frozen_by(recipe, model)
        if (start := recipe.model.get("start_from")) is not None:
            lines, taken = start_weights(model, Path(str(start)), new_head=new_head)
            still |= taken if recipe.adapter is not None else set()
    adapt(recipe, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in still)
    if still:
        lines.append(f"trains: {trained(model)}")
    return lines


def trained(model: nn.Module) -> str:
    """How many of a model's numbers train, in words."""
    every = sum(parameter.numel() for parameter in model.parameters())
    some = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return f"{some:,} of {every:,} parameters ({some / every:.2%})"


def notes_of(recipe: Recipe) -> dict[str, str]:
    """What a file of the adapters must say of them, so that it can be handed out; else nothing."""
    spec = recipe.adapter
    return {} if spec is None else {ADAPTER: json.dumps(spec.in_full())}


def frozen_by(recipe: Recipe, model: nn.Module) -> set[str]:
    """Names of the parameters that ``model.freeze`` keeps as they are; the model has no adapters.

    An entry is the beginning of a name, whole parts of it, or a pattern of such with ``*``, ``?``
    and ``[…]``. A tied matrix is frozen by each of its names.

    Raises:
        RecipeError: an entry fits nothing, or nothing is left to train.
    """
    every = dict(model.named_parameters(remove_duplicate=False))
    found: set[nn.Parameter] = set()
    for entry in recipe.freeze:
        fits = [every[name] for name in every if _begins(name, entry)]
        if not fits:
            parts = {".".join(path[:n]) for path in map(_path, every) for n in range(1, len(path))}
            near = registry.nearest(entry, sorted(parts))
            known = dict.fromkeys(_path(name)[0] for name in every)
            raise RecipeError(
                f"no part of this model is called {entry!r}",
                where="model.freeze",
                hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}, "
                "and what is in them",
            )
        found.update(fits)
    if len(found) == len(set(every.values())) and recipe.adapter is None:
        raise RecipeError("nothing is left to train", where="model.freeze")
    return {name for name, parameter in model.named_parameters() if parameter in found}


def _path(name: str) -> list[str]:
    return name.split(".")


def _begins(name: str, entry: str) -> bool:
    return fnmatch.fnmatchcase(name, entry) or fnmatch.fnmatchcase(name, f"{entry}.*")


def start_weights(
    model: nn.Module, run: Path, *, new_head: bool = False
) -> tuple[list[str], set[str]]:
    """Fill a new model with a run's weights, adapters merged into them.

    A head of another kind, for other classes, or that is to be new, keeps its random weights.
    Positions on a grid and the map of patches are interpolated where the model's are of another
    size.

    Returns:
        What came from there and what is new, in words; the names of what came.

    Raises:
        RunError, CheckpointError: the run cannot be opened.
        RecipeError: a tensor of the body has another shape there.
    """
    theirs, _, words = plain_model(run)
    weights, own = dict(theirs.named_parameters()), dict(model.named_parameters())
    weights |= (resized := _interpolated(model, theirs))
    taken = {key for key in own if key in weights}
    differ = [key for key in own if key in taken and weights[key].shape != own[key].shape]
    new_head |= _head_kind(model) != _head_kind(theirs)
    if new_head or any(key.startswith(HEAD) for key in differ):
        taken = {key for key in taken if not key.startswith(HEAD)}
    for key in differ:
        if key in taken:
            raise RecipeError(
                f"{key} is {tuple(weights[key].shape)} there and {tuple(own[key].shape)} here",
                where="model.start_from",
                hint="leave out the settings that change shapes",
            )
    if not taken:
        raise RecipeError("no tensor of that run fits this model", where="model.start_from")
    with torch.no_grad():
        for key in taken:
            own[key].copy_(weights[key])
    new, unused = sorted(own.keys() - taken), sorted(weights.keys() - taken)
    lines = [
        f"weights: {len(taken)} tensors from {run} ({words})",
        *([f"interpolated: {', '.join(sorted(resized))}"] if resized else []),
        f"new, drawn at random: {', '.join(new) or 'none'}",
        f"not used of that run: {', '.join(unused) or 'none'}",
        "new too: optimizer, schedule, step counter, order of the data",
    ]
    return lines, taken


def _interpolated(model: nn.Module, theirs: nn.Module) -> dict[str, Any]:
    """Positions on grids and maps of patches of another size, brought to the model's."""
    other, made = dict(theirs.named_modules()), dict[str, Any]()
    for name, module in model.named_modules():
        there, found = other.get(name), dict[str, Any]()
        if isinstance(module, Grid) and isinstance(there, Grid) and module.grid != there.grid:
            found = module.interpolated(there)
        elif isinstance(module, PatchEmbedding) and isinstance(there, PatchEmbedding):
            found = module.interpolated(there) if module.patch != there.patch else {}
        made |= {f"{name}.{key}": table for key, table in found.items()}
    return made


def _head_kind(model: nn.Module) -> Any:
    return getattr(getattr(cast(Any, model).config, "head", None), "kind", None)


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Put adapters from a file into a model of the base that they were trained beside.

    Args:
        model: without adapters; changed in place.
        path: the ``model.safetensors`` of a checkpoint of a run with adapters.

    Raises:
        CheckpointError: the file is none, or does not fit the model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(ADAPTER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(path)) from error
    if said is None:
        raise CheckpointError(
            "this file holds no adapters",
            where=str(path),
            hint="give the model.safetensors of a checkpoint of a run with model.adapter",
        )
    try:
        add_adapters(model, *AdapterSpec.from_settings(json.loads(said), ADAPTER).resolve())
    except (RecipeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"does not fit the model: {error}", where=str(path)) from error
    here = dict(model.named_parameters())
    into = {name: here[name] for name in here if name in tensors or ".adapters." in name}
    load_tensors(into, tensors, str(path))
