"""Everything a run needs, tried before it starts: so that an error costs seconds, not a night."""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regard import registry
from regard.errors import RegardError
from regard.load import open_task
from regard.recipe import Recipe, as_settings
from regard.tasks.task import Splits
from regard.training import TrainingSettings, choose_device, settle
from regard.workflow import build_model
from regard.workflow import train as train_run

SAMPLES = 200
"""Texts of the round trip, and pairs that the trial run is scored on."""


@dataclass(frozen=True)
class Row:
    """One thing that was tried, and what was seen."""

    what: str
    seen: str


def check(
    recipe: str | Path | Recipe, overrides: Mapping[str, Any] | Sequence[str] | None = None
) -> Iterator[Row]:
    """Try keys, files, tokenizer, memory, a step, and save → load → decode → score.

    Args:
        recipe: a file, a built-in name or a `Recipe`.
        overrides: as `regard.train`'s.

    Yields:
        a row for each thing that was tried, as it is done.

    Raises:
        RegardError: the first thing that is wrong.
    """
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe, overrides)
    loaded.check()
    yield Row("recipe", f"{loaded.origin}: every key known and typed")
    with tempfile.TemporaryDirectory(prefix="regard-check-") as directory:
        path = Path(directory)
        task = registry.task(loaded.task)(loaded)
        splits = task.prepare(path, lambda _: None)
        for note in splits.notes:
            yield Row("data", note)
        yield Row("tokenizer", task.check_tokenizer(SAMPLES))
        settings = settle(as_settings(loaded.training, TrainingSettings, where="training"))
        yield Row(
            "machine",
            f"{settings.device}, {settings.precision}, {settings.threads} threads, "
            f"torch {torch.__version__}",
        )
        yield from _try_batches(loaded, task, splits, settings)
        yield from _try_run(loaded, path / "run")


def _try_batches(
    recipe: Recipe, task: Any, splits: Splits, settings: TrainingSettings
) -> Iterator[Row]:
    model = build_model(recipe, task, settings, lambda _: None)
    device = choose_device(settings.device)
    model.to(device).train()
    steps = math.ceil(splits.train.num_micro_batches(0) / settings.accumulate)
    sizes = splits.train.tokens(0).sum(axis=1)
    yield Row(
        "batches",
        f"{steps:,} steps an epoch, {sizes.mean() * settings.accumulate:,.0f} real tokens a step",
    )
    parameters = sum(p.numel() for p in model.parameters())
    yield Row("model", f"{recipe.family}, {parameters:,} parameters")
    batch = splits.train.micro_batch(0, splits.train.worst(0))
    begun, before = time.perf_counter(), _peak(device)
    loss = _one_step(model, task.objective(), {k: v.to(device) for k, v in batch.items()})
    seconds, after = time.perf_counter() - begun, _peak(device)
    shape = " and ".join(f"{tuple(v.shape)}" for k, v in batch.items() if k.endswith("_ids"))
    yield Row(
        "worst batch",
        f"{shape}: {seconds:.2f} s, {max(after - before, 0):,.0f} MB more than before it, "
        f"{after:,.0f} MB in all",
    )
    expected = math.log(_classes(model))
    verdict = "as it should be" if abs(loss - expected) < 0.25 * expected else "look into this"
    yield Row("first loss", f"{loss:.3f}, ln V is {expected:.3f}: {verdict}")


def _one_step(model: nn.Module, objective: Any, batch: Mapping[str, torch.Tensor]) -> float:
    term = objective(model, batch)["loss"]
    mean = term.sum / term.count
    if not bool(torch.isfinite(mean)):
        raise RegardError("the loss of the worst batch is not finite before the first step")
    mean.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise RegardError("the parameter gets no gradient", where=name)
    model.zero_grad()
    return float(mean)


def _try_run(recipe: Recipe, path: Path) -> Iterator[Row]:
    """One step, saved, opened as a user opens it, decoding what it is scored on."""
    trial = recipe.override(
        {
            "training.max_steps": 1,
            "training.checkpoint.average": 0,
            "evaluation.metric": "loss",
            "evaluation.samples": 0,
        }
    )
    begun = time.perf_counter()
    run = train_run(trial, run=path)
    assert run.result is not None
    yield Row(
        "one step", f"loss on the validation data {run.result.scores.get('loss', math.nan):.3f}"
    )
    task, model = open_task(path)
    if recipe.data.valid is not None:
        sources, references = (texts[:SAMPLES] for texts in task.read_pairs())
        outputs = task.predictor(model).translate(sources, strategy="greedy", max_length=20)
        scores = task.score(sources, references, outputs).scores.values()
        seen = ", ".join(f"{score.name} {score.value:.1f}" for score in scores)
        yield Row("save, load, decode, score", f"{len(sources)} texts: {seen}")
    yield Row("trial run", f"{time.perf_counter() - begun:.1f} s")


def _classes(model: nn.Module) -> int:
    head: Any = model.head
    return int(head.weight.shape[0])


def _peak(device: torch.device) -> float:
    """Largest memory so far, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
