"""Open a run through its task: ``regard.load("runs/x")``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from regard import registry
from regard.errors import InputError, RegardError
from regard.nn import backend, native
from regard.nn.adapters import merge_adapters
from regard.nn.init import Unfilled
from regard.nn.native.stack import attach
from regard.nn.packing import pack
from regard.nn.quantized import quantize
from regard.recipe import Recipe
from regard.run import Run
from regard.training.device import choose_device
from regard.transfer import adapt

log = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16", "int8"]

DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.float32,  # between the products, which alone are of integers
}


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
    wanted = precision or recipe.decoding.precision
    dtype, place = dtype_of(wanted), _device(device)
    if wanted == "int8":
        _check_int8(place)
    task = registry.task(recipe.task).under(recipe)
    task.open(opened.path)
    config = recipe.model_config_for(task.model_settings())
    with Unfilled():
        model: nn.Module = registry.family(recipe.family).model(config)
        adapt(recipe, model)
    weights = opened.load_weights(model, checkpoint)
    model = model.to(device=place, dtype=dtype).eval()
    if wanted == "int8":
        merge_adapters(model)
        quantize(model)
        if not (native.loaded() or backend.has_int8()):
            log.warning("int8 is no faster than float32 here: torch has no exact products of it")
    elif place.type == "cpu" and native.load(wait=False):
        pack(model)
    else:
        attach(model)
    return Opened(task, model, weights)


def _device(name: str) -> torch.device:
    try:
        return choose_device(name)
    except RegardError as error:  # it speaks of the recipe's key
        raise InputError(error.what, where="device", hint=error.hint) from None


def _check_int8(device: torch.device) -> None:
    if device.type != "cpu":
        raise InputError(
            f"int8 is not for {device.type}",
            where="precision",
            hint='choose "bfloat16" or "float32"',
        )


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of states in prediction, and of weights but those of int8.

    Raises:
        InputError: there is no such precision.
    """
    if precision not in DTYPES:
        raise InputError(
            f"there is no {precision!r}",
            where="precision",
            hint=f"choose one of {', '.join(DTYPES)}",
        )
    return DTYPES[precision]
