"""The journey in Python: from a recipe to a trained run.

The command line prints what happens here and does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from regard import registry
from regard.card import card
from regard.errors import RecipeError, RegardError, RunError
from regard.nn import backend, native
from regard.nn.init import Unfilled
from regard.recipe import Recipe, as_settings, carry_on, is_run
from regard.recipe.layers import flatten
from regard.run import Run
from regard.tasks.task import Splits
from regard.training import (
    CheckpointStore,
    EvaluationSettings,
    Listener,
    Ranks,
    Report,
    TrainingSettings,
    join,
    keep_mean,
    kept_mean,
    settle,
    validation_loss,
)
from regard.training import train as run_loop
from regard.training.checkpoints import ENDED
from regard.transfer import adapt, frozen_by, notes_of, take_over

Say = Callable[[str], None]
ModelEvaluate = Callable[[nn.Module], Report]


def train(
    recipe: str | Path | Recipe,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    say: Say | None = None,
) -> Run:
    """Train what a recipe says; the whole of it, from text to a run that translates.

    Args:
        recipe: a file, a run directory, a built-in name, or a `Recipe`.
        overrides: ``{"training.seed": 2}`` or ``["training.seed=2"]``.
        run: the run directory; by default ``runs/NAME``, or with ``resume`` the run that is given
            as the recipe.
        resume: go on with the same run (from its newest valid checkpoint, or from step 0 where
            there is none yet); a new run from other weights is ``model.start_from``.
        listeners: called with every event of the loop.
        say: called with lines worth reading; nobody by default.

    Returns:
        The run; ``run.result`` says how it ended.

    Raises:
        RegardError: what is wrong, where, and what to do.
    """
    loaded = load_recipe(recipe, overrides)
    check_recipe(loaded)
    path = Path(run) if run is not None else _usual_run(recipe, loaded, resume)
    with join(loaded.training.device) as ranks, Run.hold(path, resume=resume, ranks=ranks) as held:
        tell = say if say is not None and ranks.main else _nobody
        if resume and held.has_recipe:
            loaded = _carried_on(held, loaded, tell)
        with ranks.first():
            ready = make_ready(loaded, held.path, tell)
        for note in ready.splits.notes:
            tell(note)
        fit(ready, held, ranks=ranks, resume=resume, listeners=listeners, say=tell)
        return held


def load_recipe(
    recipe: str | Path | Recipe, overrides: Mapping[str, Any] | Sequence[str] | None = None
) -> Recipe:
    """The recipe of a file, a run directory, a built-in name or a `Recipe`, with overrides."""
    if isinstance(recipe, Recipe):
        return _with_tokenizer(recipe.override(overrides) if overrides else recipe)
    return _with_tokenizer(Recipe.load(recipe, overrides, settled=is_run(recipe)))


def _with_tokenizer(recipe: Recipe) -> Recipe:
    """Weights of another run know its tokens alone: its tokenizer comes with them.

    Raises:
        RecipeError: the recipe asks for another one.
    """
    start = recipe.model.get("start_from")
    if start is None or recipe.settled or not Path(str(start)).is_dir():
        return recipe
    theirs = Recipe.load(str(start), settled=True).tokenizer
    if "tokenizer" not in recipe.model_fields_set:
        return recipe.override({"tokenizer": theirs.model_dump(exclude_none=True)})
    for key in type(theirs).model_fields:
        there, here = getattr(theirs, key), getattr(recipe.tokenizer, key)
        if there != here:
            ours, taken = ("not set" if one is None else repr(one) for one in (here, there))
            raise RecipeError(
                f"is {ours} here and {taken} in the run whose weights are taken",
                where=recipe.place(f"tokenizer.{key}"),
                hint="leave the tokenizer's settings out: it comes with the weights",
            )
    return recipe


def check_recipe(recipe: Recipe) -> None:
    """All that can be wrong with a recipe before any data are read.

    Raises:
        RecipeError: naming the file, line and key of what is wrong.
    """
    recipe.check()
    try:
        # Not on the meta device, where operations import torch's compiler for a second or two:
        # matrices are asked for, but what nobody writes to takes no memory.
        with Unfilled():
            model = registry.family(recipe.family).model(recipe.trial_config())
            frozen_by(recipe, model)
            adapt(recipe, model)
    except RecipeError as error:  # such as heads that do not divide the width
        where = recipe.place(error.where or "model")
        raise RecipeError(error.what, where=where, hint=error.hint) from None
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        what = "the model is larger than this machine's memory"
        raise RecipeError(what, where=recipe.place("model"), hint="look at its sizes") from None


def _usual_run(given: str | Path | Recipe, loaded: Recipe, resume: bool) -> Path:
    if not isinstance(given, Recipe) and is_run(given):
        return Path(given) if resume else Path("runs") / Path(given).resolve().name
    return Path("runs") / Path(loaded.origin).stem


def _carried_on(run: Run, recipe: Recipe, tell: Say) -> Recipe:
    """The run's own recipe, with what may change as ``recipe`` has it; says what goes on."""
    stored = Recipe.load(run.path, settled=True)
    carried = carry_on(stored, recipe)
    found, _ = run.store.newest_valid()
    if found is not None and "progress" in found.state():
        tell(f"kept of {run.path}: weights, optimizer, schedule, generators, place in the data")
    before, after = flatten(stored.settings()), flatten(carried.settings())
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and after.get(key) != "auto":
            tell(f"new: {key} = {after.get(key, 'not set')}, was {before.get(key, 'not set')}")
    return carried


def _nobody(line: str) -> None:
    """Where nobody reads."""


@dataclass(frozen=True)
class Ready:
    """A recipe whose data lie ready.

    Attributes:
        settings: of the loop, with what ``auto`` stands for on this machine.
    """

    recipe: Recipe
    settings: TrainingSettings
    task: Any
    splits: Splits


def make_ready(recipe: Recipe, directory: Path, say: Say) -> Ready:
    """Tokenizer and data of a recipe; both are kept in the run's directory."""
    settings = settings_of(recipe)
    backend.keep_heap()
    if settings.device == "cpu":
        native.load()
    torch.set_num_threads(settings.threads)
    task = registry.task(recipe.task).under(recipe)
    return Ready(recipe, settings, task, task.prepare(directory, say))


def settings_of(recipe: Recipe) -> TrainingSettings:
    """The loop's settings, with what ``auto`` stands for on this machine."""
    settings = settle(as_settings(recipe.training, TrainingSettings, where="training"))
    evaluation = as_settings(recipe.evaluation, EvaluationSettings, where="evaluation")
    return replace(settings, evaluation=evaluation)


def fit(
    ready: Ready,
    run: Run,
    *,
    ranks: Ranks,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    say: Say = _nobody,
) -> None:
    """Train in a run that this process holds; afterwards ``run.result`` says how it ended."""
    recipe, task, splits = ready.recipe, ready.task, ready.splits
    going_on = resume and bool(run.store.all())
    if going_on:
        _check_data(run, splits)
    model = build_model(recipe, task, ready.settings)
    store = run.store
    store.notes = notes_of(recipe) or store.notes
    restored = going_on and store.newest_valid()[0] is not None
    kept = store.base_names() if restored else None
    for line in take_over(recipe, model, kept, new_head=task.new_head()):
        say(line)
    settings = with_width(ready.settings, model)
    if ranks.main:
        run.write_recipe(settled(recipe, task, settings).dump())
        for warning in run.record_environment(_facts(recipe, model, settings, ranks, splits)):
            say(f"warning: {warning}")
    try:
        run.result = run_loop(
            model,
            task.objective(),
            splits.train,
            settings,
            evaluate=evaluator(task, splits, settings),
            listeners=[*run.writers(), *listeners],
            store=store,
            resume=resume,
            ranks=ranks,
        )
    finally:
        splits.train.close()
    if ranks.main:
        run.write_card(card(run, recipe, model))
        if run.result.reason in ENDED:
            _keep_average(store, recipe.training.checkpoint.average, say)


def _keep_average(store: CheckpointStore, count: int, say: Say) -> None:
    """Keep the mean that a run is used with, so that each use reads it alone."""
    try:
        chosen = store.to_average(count) if count else []
        if len(chosen) < 2:
            store.drop_mean()
        elif kept_mean(chosen) is None:
            say(f"averaging the weights of {len(chosen)} checkpoints")
            keep_mean(store, chosen)
    except (RegardError, OSError) as error:  # each use averages, as before the end
        say(f"warning: the averaged weights are not kept: {error}")


def _check_data(run: Run, splits: Splits) -> None:
    """The place in the data that a checkpoint holds means nothing in other data."""
    for split, digest in dict(run.environment().get("data", {})).items():
        if splits.digests.get(split) != digest:
            raise RunError(
                "the data are not those that this run was trained on so far",
                where=f"data.{split}",
                hint="put the files back as they were, or start a new run from its weights: "
                f"model.start_from={run.path}",
            )


def _facts(
    recipe: Recipe, model: nn.Module, settings: TrainingSettings, ranks: Ranks, splits: Splits
) -> dict[str, Any]:
    plugins = recipe.plugins(cast(Any, model).config)
    return {
        **({"plugins": plugins} if plugins else {}),
        "precision": settings.precision,
        "threads": settings.threads,
        "ranks": ranks.world,
        "device": settings.device,
        "native": native.loaded(),
        "data": dict(splits.digests),
    }


def with_width(settings: TrainingSettings, model: nn.Module) -> TrainingSettings:
    """The paper's schedule follows from the model's width, where it has one."""
    width = int(getattr(cast(Any, model).config, "d_model", 0))
    return replace(settings, schedule=replace(settings.schedule, d_model=width))


def settled(recipe: Recipe, task: Any, settings: TrainingSettings) -> Recipe:
    """The recipe with everything said: sizes that the data decide, and what ``auto`` chose."""
    chosen = {
        "training.device": settings.device,
        "training.precision": settings.precision,
        "training.threads": settings.threads,
    }
    return recipe.resolved(task.model_settings()).override({**task.said(), **chosen})


def build_model(recipe: Recipe, task: Any, settings: TrainingSettings) -> nn.Module:
    """The model with its first weights, random by the seed."""
    config = recipe.model_config_for(task.model_settings())
    torch.manual_seed(settings.seed)
    model: nn.Module = registry.family(recipe.family).model(config)
    return model


def evaluator(task: Any, splits: Splits, settings: TrainingSettings) -> ModelEvaluate | None:
    """What the loop calls to score a model: losses, and the task's score where it decides."""
    if splits.valid is None:
        return None
    objective, valid = task.objective(), splits.valid
    decodes = settings.evaluation.metric in task.metrics
    samples = settings.evaluation.samples

    def evaluate(model: nn.Module) -> Report:
        scores = validation_loss(model, objective, valid)
        if decodes:
            found = task.evaluate(model, task.read(), samples=samples)
            scores |= {name: score.value for name, score in found.scores.items()}
            shown = found.samples
        else:
            shown = task.show(model, samples)
        return Report(scores, tuple(vars(sample) for sample in shown))

    return evaluate
