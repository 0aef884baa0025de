"""A recipe: loaded in layers, checked in two stages, resolved, compared and written back.

Stage one (`Recipe.load`) knows the sections and every registered name, and imports nothing heavy.
Stage two (`Recipe.check`, `Recipe.resolved`) asks the family, the objective and the task for
their own keys. Precedence: defaults < preset or start_from < recipe < command line.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, ValidationError

from regard import registry
from regard.errors import RecipeError
from regard.recipe import text as toml
from regard.recipe.augmentation import Augmentation
from regard.recipe.checks import (
    check_family,
    check_metric,
    check_objective,
    check_task,
    objective_settings,
)
from regard.recipe.faults import Source, translate
from regard.recipe.files import read_recipe
from regard.recipe.layers import (
    Overrides,
    flatten,
    overlay,
    parse_overrides,
    with_absolute_paths,
    with_derived_defaults,
)
from regard.recipe.sections import RecipeModel, Split
from regard.recipe.transfer import AdapterSpec, read_adapter, read_freeze
from regard.spec import build, kinds_of, plain, resolve

OWN_MODEL_KEYS = ("family", "preset", "start_from", "freeze", "adapter")
"""Keys of ``model`` that are the recipe's, not the family's."""

NAMED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("tokenizers", ("tokenizer", "kind")),
    ("objectives", ("objective", "kind")),
    ("optimizers", ("training", "optimizer", "kind")),
    ("schedules", ("training", "schedule", "kind")),
)
"""Registry groups, and the keys that name one of their kinds."""


class Recipe(RecipeModel):
    """All of a run: `Recipe.load` reads one, `dump` writes it.

    The sections are attributes: ``recipe.training.seed``, ``recipe.decoding.beam``. ``model`` is
    a plain table until `model_config` builds the family's config from it.
    """

    _source: Source = PrivateAttr(default_factory=Source)
    _settled: bool = PrivateAttr(default=False)

    @classmethod
    def load(
        cls,
        recipe: str | os.PathLike[str],
        overrides: Overrides | None = None,
        *,
        settled: bool = False,
    ) -> Self:
        """Read a recipe file, a run directory's recipe, or a built-in recipe by its name.

        Args:
            recipe: the file, directory or name.
            overrides: ``["training.seed=2", …]`` or a mapping; paths in them are relative to the
                working directory, paths in a file to that file.
            settled: the file is a run's resolved recipe, so that neither a preset nor
                ``start_from`` is looked at again.

        Raises:
            RecipeError: naming the file, line and key of what is wrong.
        """
        name, text, base = read_recipe(recipe)
        settings = toml.parse(text, name)
        made = cls.from_settings(
            with_absolute_paths(settings, base), overrides, source=Source(name, text)
        )
        made._settled = settled
        if settled and "preset" in parse_overrides(overrides).get("model", {}):
            raise RecipeError(
                "a run's recipe says every size: a preset would change nothing",
                where="command line: model.preset",
                hint="use the recipe that the run was trained by, or set the sizes themselves",
            )
        return made

    @classmethod
    def from_settings(
        cls,
        settings: Mapping[str, Any],
        overrides: Overrides | None = None,
        *,
        source: Source | None = None,
    ) -> Self:
        """From nested plain values, e.g. a table written in Python; see `load`."""
        source = source or Source()
        given = parse_overrides(overrides)
        if given and not source.given:
            by = "overrides" if isinstance(overrides, Mapping) else "command line"
            source = dataclasses.replace(source, given_by=by)
        source = dataclasses.replace(source, given=overlay(source.given, given))
        merged = with_absolute_paths(overlay(settings, given), Path.cwd())
        merged = with_derived_defaults(merged)
        try:
            made = cls.model_validate(merged)
        except ValidationError as error:
            raise translate(error, source, merged) from None
        made._source = source
        made._check_names()
        return made

    def override(self, overrides: Overrides) -> Self:
        """This recipe with some settings changed; what it did not say stays unsaid."""
        said = self.model_dump(exclude_none=True, exclude_unset=True)
        return self.replaced(said, overrides)

    def replaced(self, settings: Mapping[str, Any], overrides: Overrides | None = None) -> Self:
        """Other settings in this recipe's place: errors name its file."""
        made = self.from_settings(settings, overrides, source=self._source)
        made._settled = self._settled
        return made

    @property
    def settled(self) -> bool:
        """Whether it is a run's resolved recipe, in which everything is said."""
        return self._settled

    @property
    def origin(self) -> str:
        """The file or the name that it was read from."""
        return self._source.name

    def settings(self) -> dict[str, Any]:
        """Nested plain values, defaults included; what is None is left out."""
        return self.model_dump(exclude_none=True)

    def dump(self) -> str:
        """TOML text; reading it gives an equal recipe."""
        return toml.write(self.settings())

    @property
    def family(self) -> str:
        """The registry's name of the architecture: the recipe's, or the task's usual one."""
        return str(self.model.get("family") or registry.task(self.task).family)

    @property
    def adapter(self) -> AdapterSpec | None:
        """What trains beside weights that do not, if the recipe asks for it."""
        try:
            return read_adapter(self.model)
        except RecipeError as error:
            raise self._placed(error, ()) from None

    @property
    def freeze(self) -> list[str]:
        """Names or patterns of the parts of the model that do not train."""
        try:
            return read_freeze(self.model)
        except RecipeError as error:
            raise self._placed(error, ()) from None

    def has(self, split: str) -> bool:
        """Whether there are data of ``train``, ``valid`` or ``test``."""
        mixed = any(getattr(one, split) is not None for one in self.mixture or ())
        return mixed or getattr(self.data, split) is not None

    def data_of(self, split: str) -> Split:
        """The data of ``train``, ``valid`` or ``test``.

        Raises:
            RecipeError: when the recipe has none.
        """
        found = getattr(self.data, split)
        if found is None:
            raise RecipeError(
                "this run has no such data",
                where=self._source.place(("data", split)),
                hint=f"give it: data.{split}.source=FILE data.{split}.target=FILE, "
                f"or data.{split}.file=FILE",
            )
        assert isinstance(found, Split)
        if found.fields is not None and found.file is None:
            raise RecipeError(
                "fields name columns of a file: give file as well",
                where=self._source.place(("data", split)),
                hint=f"such as data.{split}.file=FILE",
            )
        return found

    def check(self) -> None:
        """Stage two before any data is read: the family's, the objective's and the task's keys.

        Raises:
            RecipeError: naming the file, line and key of what is wrong.
        """
        check_family(self)
        self.trial_config()
        _ = self.adapter, self.freeze
        check_objective(self)
        check_task(self)
        check_metric(self)

    def trial_config(self) -> Any:
        """The family's config, with a stand-in for what only the data can say."""
        return self.model_config_for(self._stand_in())

    def place(self, key: str) -> str:
        """Where a key is written, as errors name it.

        Args:
            key: dotted; of the model's keys the end is enough: ``attention.num_heads``.
        """
        written = flatten({"model": self.model})
        found = next((name for name in written if name.endswith(f".{key}")), None)
        if found is None and key.split(".")[0] not in type(self).model_fields:  # a preset's
            return f"{self._source.place(('model',))}: {key}"
        return self._source.place(tuple((found or key).split(".")))

    def model_config_for(self, decided: Mapping[str, Any] | None = None) -> Any:
        """The family's config: defaults < preset or start_from < recipe and command line.

        Args:
            decided: what the data say about the model, such as ``vocab_size``. The recipe may
                ask for more entries, never for fewer.

        Raises:
            RecipeError: for an unknown key, a value of another type or a size that cannot be.
        """
        family = registry.family(self.family)
        own = {key: value for key, value in self.model.items() if key not in OWN_MODEL_KEYS}
        for key, value in (decided or {}).items():
            if isinstance(own.get(key), int) and isinstance(value, int) and own[key] < value:
                raise RecipeError(
                    f"is {own[key]}, but the data need {value}",
                    where=self._source.place(("model", key)),
                    hint="leave it out: the tokenizer says it",
                )
        defaults = {} if self._settled else family.defaults
        layers = (defaults, self._base_settings(family), decided or {}, own)
        try:
            return build(family.config, resolve(*layers, stacks=family.stacks), where="model")
        except RecipeError as error:
            raise self._placed(error, family.stacks) from None

    def resolved(self, decided: Mapping[str, Any] | None = None) -> Self:
        """Everything said: the model's table holds each of the family's settings.

        Args:
            decided: see `model_config_for`.
        """
        check_objective(self)
        check_task(self)
        config = self.model_config_for(decided)
        kept = {key: self.model[key] for key in OWN_MODEL_KEYS if key in self.model}
        if self.adapter is not None:
            kept["adapter"] = self.adapter.in_full()
        model = {"family": self.family, **kept, **plain(config)}
        objective = self.objective.model_copy(update=objective_settings(self))
        decoding = self.decoding
        if "strategy" not in decoding.model_fields_set:
            strategy = registry.task(self.task).strategy
            decoding = decoding.model_copy(update={"strategy": strategy})
        changes = {"model": model, "objective": objective, "decoding": decoding}
        if "augmentation" in registry.task(self.task).uses:
            changes["augmentation"] = self.augmentation or Augmentation()
        made = self.model_copy(update=changes)
        made._settled = True
        return made

    def spelled_out(self) -> Self:
        """Everything said that can be before there are data: `resolved`, without vocabulary."""
        stand_in = self._stand_in()
        made = self.resolved(stand_in)
        model = {key: value for key, value in made.model.items() if key not in stand_in}
        return made.model_copy(update={"model": model})

    def plugins(self, config: Any) -> dict[str, str]:
        """The packages that the run needs beside regard, by ``group.name`` of what is theirs.

        Args:
            config: of the model.
        """
        named = [*((group, name) for group, _, name in self._names()), *kinds_of(config)]
        named += kinds_of(self.adapter)
        found = {pair: registry.plugin(*pair) for pair in dict.fromkeys(named)}
        return {f"{group}.{name}": of for (group, name), of in found.items() if of is not None}

    # Stage one

    def _names(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Group, key and name of what is registered and named in a section of every task."""
        yield "tasks", ("task",), self.task
        if "family" in self.model:
            yield "families", ("model", "family"), str(self.model["family"])
        for group, path in NAMED:
            held: Any = self
            for part in path:
                held = getattr(held, part)
            yield group, path, held

    def _check_names(self) -> None:
        for group, path, name in self._names():
            known = registry.names(group)
            if name not in known and registry.plugin(group, name) is None:
                near = registry.nearest(name, known)
                raise RecipeError(
                    f"there is no {name!r}",
                    where=self._source.place(path),
                    hint=(f"did you mean {near!r}? " if near else "")
                    + f"known: {', '.join(known)}",
                )

    # Stage two

    def _stand_in(self) -> dict[str, Any]:
        """What the data decide, for a config that is only checked."""
        config = registry.family(self.family).config
        names = {found.name for found in dataclasses.fields(config)} - self.model.keys()
        given = registry.task(self.task).stand_in
        return {key: value for key, value in given.items() if key in names}

    def _base_settings(self, family: registry.Family) -> Mapping[str, Any]:
        """The settings of the preset, or of the run that this one starts from."""
        preset, start = self.model.get("preset"), self.model.get("start_from")
        if self._settled:
            return {}
        if preset is not None and start is not None:
            raise RecipeError(
                "preset and start_from exclude each other: the weights have their own size",
                where=self._source.place(("model", "preset")),
            )
        if start is not None:
            return self._settings_of_run(str(start))
        if preset is None:
            return {}
        if preset not in family.presets:
            near = registry.nearest(str(preset), family.presets)
            raise RecipeError(
                f"{family.name} has no preset {preset!r}",
                where=self._source.place(("model", "preset")),
                hint=(f"did you mean {near!r}? " if near else "")
                + f"known: {', '.join(family.presets)}",
            )
        return family.presets[preset]

    def _settings_of_run(self, start: str) -> Mapping[str, Any]:
        try:
            if not Path(start).is_dir():
                raise RecipeError("there is no such run")
            model = type(self).load(start, settled=True).model
        except RecipeError as error:
            raise RecipeError(
                f"cannot start from there: {error.what}",
                where=self._source.place(("model", "start_from")),
                hint="model.start_from names a run directory",
            ) from None
        if model.get("family") != self.family:
            raise RecipeError(
                f"that run's model is a {model.get('family')}, this one's a {self.family}",
                where=self._source.place(("model", "start_from")),
            )
        return {key: value for key, value in model.items() if key not in OWN_MODEL_KEYS}

    def _placed(self, error: RecipeError, stacks: tuple[str, ...]) -> RecipeError:
        """The error at the key as written: ``model.layer.x``, not ``model.encoder.layer.x``."""
        key = tuple((error.where or "model").split("."))
        if key[0] != "model":
            key = ("model",)
        written = flatten({"model": self.model})
        stack, shared = "".join(key[1:2]), (key[0], *key[2:])
        if len(key) > 2 and stack in stacks and _has(written, shared) and not _has(written, key):
            key = shared
        what = error.what if error.where is None or key != ("model",) else f"{error.where}: {error}"
        hint = error.hint
        if hint and key == shared:
            hint = hint.replace(f"model.{stack}.", "model.")
        return RecipeError(what, where=self._source.place(key), hint=hint)


def _has(written: Mapping[str, Any], key: tuple[str, ...]) -> bool:
    """Whether a key, or something under it, was written."""
    dotted = ".".join(key)
    return any(name == dotted or name.startswith(f"{dotted}.") for name in written)
