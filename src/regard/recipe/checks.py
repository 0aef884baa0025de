"""Stage two: what the objective and the task say of their own keys."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regard import registry
from regard.errors import RecipeError
from regard.recipe.layers import SPLITS
from regard.recipe.sections import Split

if TYPE_CHECKING:
    from regard.recipe.recipe import Recipe


def check_family(recipe: Recipe) -> None:
    """The model must be of the form of the task's usual one: its shape, and what it reads."""
    usual = _form(registry.task(recipe.task).under(recipe).family)
    if _form(recipe.family) != usual:
        fits = [name for name in registry.names("families") if _form(name) == usual]
        raise RecipeError(
            f"{recipe.family} is no model for {recipe.task}",
            where=recipe.place("model.family"),
            hint=f"known for it: {', '.join(fits)}",
        )


def _form(family: str) -> tuple[str, list[str]]:
    """What a family's model is, and the names of what it is called with."""
    found = registry.family(family)
    said = inspect.signature(found.model.forward).parameters.values()  # type: ignore[attr-defined]
    return found.shape, [one.name for one in said if one.default is one.empty]


def check_objective(recipe: Recipe) -> None:
    """A key that the objective would not read is an error."""
    settings = recipe.objective
    kind = registry.kind("objectives", settings.kind)
    batches = registry.task(recipe.task).batches
    forms = (batches,) if isinstance(batches, str) else batches
    if getattr(kind, "reads", forms[0]) not in forms:
        fits = [name for name in registry.names("objectives") if _reads(name) in forms]
        raise RecipeError(
            f"{settings.kind!r} is no objective of {recipe.task}",
            where=recipe.place("objective.kind"),
            hint=f'write objective.kind = "{fits[0]}"' if fits else None,
        )
    known = list(objective_options(kind))
    smoothing = [] if settings.label_smoothing is None else ["label_smoothing"]
    for key in [*settings.own, *smoothing]:
        if key not in known:
            near = registry.nearest(key, known)
            raise RecipeError(
                f"the objective {settings.kind!r} has no such key",
                where=recipe.place(f"objective.{key}"),
                hint=f"did you mean objective.{near}?" if near else f"known: {', '.join(known)}",
            )
    for key, value in settings.own.items():
        default = objective_options(kind)[key].default
        if default is not None and not _is_like(value, default):
            raise RecipeError(
                f"{value!r} is not of the kind of {default!r}",
                where=recipe.place(f"objective.{key}"),
            )
    try:
        kind(**objective_settings(recipe))
    except ValueError as error:
        raise RecipeError(str(error), where=recipe.place("objective")) from error


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value may stand where such a default does; a whole number is a number."""
    return type(value) is type(default) or (type(value) is int and type(default) is float)


def objective_settings(recipe: Recipe) -> dict[str, Any]:
    """Every setting of the objective, as the recipe has it or as it is by itself."""
    given = recipe.objective.model_dump(exclude_none=True)
    parameters = objective_options(registry.kind("objectives", recipe.objective.kind))
    return {name: given.get(name, one.default) for name, one in parameters.items()}


def objective_options(kind: Any) -> Mapping[str, inspect.Parameter]:
    """The keys of an objective: its parameters that have a default."""
    found = inspect.signature(kind).parameters
    return {name: one for name, one in found.items() if one.default is not one.empty}


def _reads(objective: str) -> str:
    return str(getattr(registry.kind("objectives", objective), "reads", ""))


def check_metric(recipe: Recipe) -> None:
    """What says which checkpoint is best is a score of the task or a term of the objective."""
    metric = recipe.evaluation.metric
    idle = [
        ("evaluation.metric", metric != "loss"),
        ("training.patience", recipe.training.patience),
    ]
    for key, given in idle:
        if given and recipe.has("train") and not recipe.has("valid"):
            raise RecipeError(
                "has no meaning without validation data",
                where=recipe.place(key),
                hint="give data.valid, or leave it out",
            )
    objective = registry.kind("objectives", recipe.objective.kind)
    terms = getattr(objective, "terms", None)
    if terms is None:  # a plug-in that does not say
        return
    watched = {*terms, "perplexity"} if "nll" in terms else {*terms}
    own = registry.task(recipe.task).under(recipe).metrics
    wanted = {score for one in recipe.mixture or () for score in one.metrics or own}
    scores = [score for score in own if score in wanted or not recipe.mixture]
    fitting = getattr(objective, "scores", scores)
    named = [score for score in scores if score in fitting] or fitting
    known = [*sorted(watched), *named]
    if metric not in known:
        near = registry.nearest(metric, known)
        raise RecipeError(
            f"there is no score {metric!r} in {recipe.task}",
            where=recipe.place("evaluation.metric"),
            hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
        )


def check_task(recipe: Recipe) -> None:
    """A key that the task would not read is an error."""
    task = registry.task(recipe.task).under(recipe)
    unread = [
        f"data.{split}.{key}"
        for split in SPLITS
        for key in (getattr(recipe.data, split) or Split()).own
        if key not in task.data_keys
    ]
    given = {
        "augmentation": recipe.augmentation,
        "mixture": recipe.mixture,
        "data.roles": recipe.data.roles,
        "data.answers": recipe.data.answers,
        "data.stride": recipe.data.stride,
        "data.prefix": recipe.data.prefix,
        "data.broken": recipe.data.broken,
    }
    if recipe.mixture and "mixture" in task.uses:
        _check_mixture(recipe, task)
    unread += [key for key, held in given.items() if held is not None and key not in task.uses]
    if unread:
        near = registry.nearest(unread[0].split(".")[-1], (*Split.model_fields, *task.data_keys))
        raise RecipeError(
            f"the task {recipe.task!r} has no such key",
            where=recipe.place(unread[0]),
            hint=f"did you mean {near}?" if near and "." in unread[0] else None,
        )
    needed, found = (_head(one) for one in (task.stand_in, recipe.model))
    if needed and found not in (None, needed) and registry.plugin("heads", str(found)) is None:
        raise RecipeError(
            f"is {found!r}, and the task {recipe.task!r} needs {needed!r}",
            where=recipe.place("model.head"),
            hint="leave it out: the task says it",
        )


def _head(model: Mapping[str, Any]) -> Any:
    """The kind of a model's head, where its settings say one."""
    head = model.get("head")
    return head.get("kind") if isinstance(head, Mapping) else head


def _check_mixture(recipe: Recipe, task: Any) -> None:
    """It stands in place of the data; its rates are all said or none; its scores are the task's."""
    mixture = list(recipe.mixture or ())
    if any(getattr(recipe.data, split) is not None for split in SPLITS) or recipe.data.prefix:
        raise RecipeError(
            "a mixture and data.train exclude each other: give one", where=recipe.place("mixture")
        )
    names = list[str]()
    for number, one in enumerate(mixture, start=1):
        where = f"mixture.{number}"
        if (one.rate is None) != (mixture[0].rate is None):
            raise RecipeError(
                "some have a rate and some have not: give all, or none", where=recipe.place(where)
            )
        names.append(one.name or str(number))
        if names[-1] in names[:-1]:
            raise RecipeError(
                f"two have the same name in scores: {names[-1]!r}",
                where=recipe.place(f"{where}.name"),
                hint="without a name it is the number, from 1",
            )
        for split in SPLITS:
            held = getattr(one, split)
            for key in held.own if held is not None else ():
                raise RecipeError(
                    f"unknown key {key!r} in a mixture's data",
                    where=recipe.place(f"{where}.{split}.{key}"),
                )
        for metric in one.metrics or ():
            if metric not in task.metrics:
                raise RecipeError(
                    f"there is no score {metric!r}",
                    where=recipe.place(f"{where}.metrics"),
                    hint=f"known: {', '.join(task.metrics)}",
                )
