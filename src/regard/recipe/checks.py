"""Stage two: what the objective and the task say of their own keys."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from regard import registry
from regard.errors import RecipeError
from regard.recipe.layers import SPLITS
from regard.recipe.sections import Split

if TYPE_CHECKING:
    from regard.recipe.recipe import Recipe


def check_objective(recipe: Recipe) -> None:
    """A key that the objective would not read is an error."""
    settings = recipe.objective
    kind = registry.kind("objectives", settings.kind)
    batches = registry.task(recipe.task).batches
    if getattr(kind, "reads", batches) != batches:
        fits = [name for name in registry.names("objectives") if _reads(name) == batches]
        raise RecipeError(
            f"{settings.kind!r} is no objective of {recipe.task}",
            where=recipe.place("objective.kind"),
            hint=f'write objective.kind = "{fits[0]}"' if fits else None,
        )
    known = [name for name in inspect.signature(kind).parameters if name != "self"]
    for key in settings.own:
        if key not in known:
            near = registry.nearest(key, known)
            raise RecipeError(
                f"the objective {settings.kind!r} has no such key",
                where=recipe.place(f"objective.{key}"),
                hint=f"did you mean objective.{near}?" if near else f"known: {', '.join(known)}",
            )


def _reads(objective: str) -> str:
    return str(getattr(registry.kind("objectives", objective), "reads", ""))


def check_metric(recipe: Recipe) -> None:
    """What says which checkpoint is best is a score of the task or a term of the objective."""
    metric, data = recipe.evaluation.metric, recipe.data
    idle = [
        ("evaluation.metric", metric != "loss"),
        ("training.patience", recipe.training.patience),
    ]
    for key, given in idle:
        if given and data.train is not None and data.valid is None:
            raise RecipeError(
                "has no meaning without validation data",
                where=recipe.place(key),
                hint="give data.valid, or leave it out",
            )
    terms = getattr(registry.kind("objectives", recipe.objective.kind), "terms", None)
    if terms is None:  # a plug-in that does not say
        return
    watched = {*terms, "perplexity"} if "nll" in terms else {*terms}
    known = [*sorted(watched), *registry.task(recipe.task).metrics]
    if metric not in known:
        near = registry.nearest(metric, known)
        raise RecipeError(
            f"there is no score {metric!r} in {recipe.task}",
            where=recipe.place("evaluation.metric"),
            hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}",
        )


def check_task(recipe: Recipe) -> None:
    """A key that the task would not read is an error."""
    task = registry.task(recipe.task)
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
    }
    unread += [key for key, held in given.items() if held is not None and key not in task.uses]
    if unread:
        near = registry.nearest(unread[0].split(".")[-1], (*Split.model_fields, *task.data_keys))
        raise RecipeError(
            f"the task {recipe.task!r} has no such key",
            where=recipe.place(unread[0]),
            hint=f"did you mean {near}?" if near and "." in unread[0] else None,
        )
