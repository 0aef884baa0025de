"""Two recipes beside each other, and a section as the settings of a lower floor."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from regard import registry
from regard.errors import RecipeError, RegardError
from regard.recipe.layers import flatten
from regard.recipe.recipe import Recipe
from regard.spec import build, nest

T = TypeVar("T")

MAY_CHANGE = (
    "data.train.",
    "data.valid.",
    "data.test.",
    "data.cache",
    "training.max_steps",
    "training.max_epochs",
    "training.workers",
    "training.device",
    "training.threads",
    "training.checkpoint.",
    "evaluation.",
)
"""What a resumed run may say otherwise than it did (design, section 6). Files may lie elsewhere,
but must hold what they held: training checks that. Another number of threads may round otherwise:
the run's environment file notices, and training warns."""

LEARNED = ("augmentation.mean", "augmentation.std")
"""What the data say where a recipe does not."""


def differences(stored: Recipe, new: Recipe) -> list[str]:
    """The keys in which ``new`` asks for another run than ``stored``, a run's resolved recipe.

    ``auto`` agrees with whatever was chosen, and what `MAY_CHANGE` lists may differ.
    """
    if stored.settled and not new.settled:
        by_data = (*registry.task(stored.task).stand_in, "target_vocab_size")
        decided = {key: stored.model[key] for key in by_data if key in stored.model}
        new = new.resolved(decided)
    before, after = flatten(stored.settings()), flatten(new.settings())
    return sorted(
        key
        for key in before.keys() | after.keys()
        if not key.startswith(MAY_CHANGE)
        and before.get(key) != after.get(key)
        and after.get(key) != "auto"
        and not (key in LEARNED and key not in after)
    )


def carry_on(stored: Recipe, new: Recipe) -> Recipe:
    """The recipe of a resumed run: the stored one, with what may change as ``new`` has it.

    Raises:
        RecipeError: listing the keys that differ and may not.
    """
    if found := differences(stored, new):
        raise RecipeError(
            f"the run was started with another recipe; it differs in {', '.join(found)}",
            where=new.origin,
            hint="resume with the run's own recipe, or start a new run in another directory "
            "(model.start_from takes over its weights)",
        )
    kept = {k: v for k, v in flatten(stored.settings()).items() if not k.startswith(MAY_CHANGE)}
    changed = {k: v for k, v in flatten(new.settings()).items() if k.startswith(MAY_CHANGE)}
    # 0 agrees with whatever was chosen: the run goes on to the same bits.
    changed["training.threads"] = new.training.threads or stored.training.threads
    return stored.replaced(nest({**kept, **changed}))


def as_settings(section: Any, cls: type[T], *, where: str) -> T:
    """A section as the dataclass of a lower floor, whose fields have the same names.

    Keys that are not that dataclass's are left out: a section may serve two readers.
    """
    names = {found.name for found in dataclasses.fields(cls)}  # type: ignore[arg-type]
    settings = section.model_dump(exclude_none=True)
    try:
        return build(cls, {k: v for k, v in settings.items() if k in names}, where=where)
    except RecipeError:
        raise
    except RegardError as error:
        raise RecipeError(error.what, where=error.where, hint=error.hint) from None
