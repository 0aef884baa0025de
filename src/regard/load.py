"""Open a run through its task: ``regard.load("runs/x")``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from regard import registry
from regard.errors import InputError, RegardError
from regard.recipe import Recipe
from regard.run import Run
from regard.training.device import choose_device
from regard.transfer import adapt

Precision = Literal["auto", "float32", "bfloat16", "int8"]

DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


def load(
    run: str | Path,
    *,
    precision: Precision | None = None,
    device: str = "auto",
    checkpoint: str | int = "auto",
) -> Any:
    """The predictor of a finished (or stopped) run.

    Args:
        run: the run directory.
        precision: of the weights; None = what the recipe's ``decoding.precision`` says.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoint: ``auto`` (the averaged weights where the recipe asks for them, else the best,
            else the newest), ``best``, ``last`` or a step.

    Returns:
        The task's predictor, e.g. `regard.tasks.translation.Translator`: it has ``.model`` (the
        plain ``nn.Module``), ``.tokenizer`` and the task's verb.

    Raises:
        RunError: the directory is not a run.
        CheckpointError: it has no valid checkpoint.
    """
    opened = open_task(run, precision=precision, device=device, checkpoint=checkpoint)
    return opened.task.predictor(opened.model)


class Opened(NamedTuple):
    """A run made ready for use.

    Attributes:
        task: of its recipe.
        model: with its weights.
        weights: which they are, in words.
    """

    task: Any
    model: nn.Module
    weights: str


def open_task(
    run: str | Path,
    *,
    precision: Precision | None = None,
    device: str = "auto",
    checkpoint: str | int = "auto",
) -> Opened:
    """A run's task object and its model in evaluation mode; see `load`."""
    opened = Run.open(run)
    recipe = Recipe.load(opened.path, settled=True)
    dtype, place = dtype_of(precision or recipe.decoding.precision), _device(device)
    task = registry.task(recipe.task)(recipe)
    task.open(opened.path)
    config = recipe.model_config_for(task.model_settings())
    model: nn.Module = registry.family(recipe.family).model(config)
    adapt(recipe, model)
    weights = opened.load_weights(model, checkpoint)
    return Opened(task, model.to(device=place, dtype=dtype).eval(), weights)


def _device(name: str) -> torch.device:
    try:
        return choose_device(name)
    except RegardError as error:  # it speaks of the recipe's key
        raise InputError(error.what, where="device", hint=error.hint) from None


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of weights in prediction.

    Raises:
        InputError: for a precision that is not built.
    """
    if precision not in DTYPES:
        known = ", ".join(DTYPES)
        raise InputError(
            "int8 is not built yet" if precision == "int8" else f"there is no {precision!r}",
            where="precision",
            hint=f"choose one of {known}",
        )
    return DTYPES[precision]
