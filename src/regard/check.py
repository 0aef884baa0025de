"""Everything a run needs, tried before it starts: so that an error costs seconds, not a night."""

from __future__ import annotations

import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regard.errors import RegardError
from regard.load import open_task
from regard.objectives.classes import Classes
from regard.recipe import Recipe
from regard.run import Run
from regard.training import Ranks, choose_device, counted, make_precision, make_schedule
from regard.training.optimizers import layer_scales
from regard.transfer import take_over
from regard.workflow import (
    Ready,
    build_model,
    check_recipe,
    fit,
    load_recipe,
    make_ready,
    settings_of,
)

SAMPLES = 200
"""Texts of the round trip, and pairs that the trial run is scored on."""


@dataclass(frozen=True)
class Row:
    """One thing that was tried, and what was seen: in words, and as numbers for a program."""

    what: str
    seen: str
    values: Mapping[str, float | str] = field(default_factory=dict)


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
    loaded = load_recipe(recipe, overrides)
    check_recipe(loaded)
    yield Row("recipe", f"{loaded.origin}: every key known and typed")
    with (
        tempfile.TemporaryDirectory(prefix="regard-check-") as directory,
        Run.hold(Path(directory) / "run") as run,
    ):
        ready = make_ready(loaded, run.path, lambda _: None)
        for note in ready.splits.notes:
            yield Row("data", note)
        what = "tokenizer" if ready.task.inputs == "texts" else ready.task.inputs
        yield Row(what, ready.task.check_inputs(SAMPLES))
        settings = ready.settings
        yield Row(
            "machine",
            f"{settings.device}, {settings.precision}, {counted(settings.threads, 'thread')}, "
            f"torch {torch.__version__}",
            {
                "device": settings.device,
                "precision": settings.precision,
                "threads": settings.threads,
                "torch": torch.__version__,
            },
        )
        yield from _try_batches(ready)
        yield from _try_run(ready, run)


def _try_batches(ready: Ready) -> Iterator[Row]:
    recipe, task, splits, settings = ready.recipe, ready.task, ready.splits, ready.settings
    steps = math.ceil(splits.train.num_micro_batches(0) / settings.accumulate)
    sizes = splits.train.tokens(0).sum(axis=1)
    yield Row(
        "batches",
        f"{steps:,} steps an epoch, {sizes.mean() * settings.accumulate:,.0f} real tokens a step",
        {"steps": steps, "tokens": round(float(sizes.mean()) * settings.accumulate)},
    )
    schedule = _schedule(ready, steps)
    yield schedule
    model = build_model(recipe, task, settings)
    for line in take_over(recipe, model, new_head=task.new_head()):
        yield Row("weights", line)
    parameters = sum(p.numel() for p in model.parameters())
    yield Row("model", f"{recipe.family}, {parameters:,} parameters", {"parameters": parameters})
    if settings.layer_decay != 1.0:
        yield from _rates(model, settings.layer_decay, float(schedule.values["rate"]))
    device = choose_device(settings.device)
    model.to(device).train()
    make_precision(settings.precision, model)
    batch = splits.train.micro_batch(0, splits.train.worst(0))
    begun, before = time.perf_counter(), _peak(device, reset=True)
    loss = _one_step(model, task.objective(), {k: v.to(device) for k, v in batch.items()})
    seconds, after = time.perf_counter() - begun, _peak(device)
    yield Row(
        "worst batch",
        f"{_shape(batch)}: {seconds:.2f} s, {after - before:,.0f} MB more than before it, "
        f"{after:,.0f} MB in all",
        {"seconds": round(seconds, 3), "added_mb": round(after - before), "peak_mb": round(after)},
    )
    classes = _classes(model, task.objective())
    if classes is None:
        return
    blind = math.log(classes)
    # The logits' variance adds half of itself to ln V: at most about 1 for any sound first weights.
    most = 1.1 * blind + 1
    verdict = "as it should be" if loss < most else "too high, look into this"
    if "start_from" in recipe.model:  # weights that know other texts may be surer than is right
        verdict = "of the weights it starts from"
    yield Row(
        "first loss",
        f"{loss:.3f}, a blind guess has ln V = {blind:.3f}, sound ones up to {most:.1f}: {verdict}",
        {"loss": round(loss, 4), "blind": round(blind, 4), "most": round(most, 4)},
    )


def _shape(batch: Mapping[str, torch.Tensor]) -> str:
    """Of what the model reads, in words."""
    ids = [v.shape for k, v in batch.items() if k.split("_")[-1] == "ids"]
    shapes = ids or [batch["pixels"].shape]
    said = "texts × tokens" if ids else "pictures × channels × height × width"
    return f"{' and '.join(' × '.join(map(str, one)) for one in shapes)} ({said})"


def _schedule(ready: Ready, steps: int) -> Row:
    """The highest rate of the run, and when: a warm-up longer than the run never gets there."""
    settings = ready.settings
    ends = [settings.max_steps, settings.max_epochs and settings.max_epochs * steps]
    horizon = min(end for end in ends if end)
    config = ready.recipe.model_config_for(ready.task.model_settings())
    width = int(getattr(config, "d_model", 0))
    rate = make_schedule(replace(settings.schedule, d_model=width), horizon)
    tried = {*range(1, horizon + 1, max(1, horizon // 2000)), horizon}
    tried.add(min(horizon, max(1, settings.schedule.warmup_steps)))
    highest = max(tried, key=rate)
    found = f"{settings.schedule.kind}: at most {rate(highest):.3g}, at step {highest:,}"
    warmup = settings.schedule.warmup_steps
    short = f" — the run ends before its {warmup:,} steps of warm-up" if warmup > horizon else ""
    values = {"rate": rate(highest), "step": highest, "of": horizon}
    return Row("schedule", f"{found} of {horizon:,}{short}", values)


def _rates(model: nn.Module, decay: float, highest: float) -> Iterator[Row]:
    """The highest rate of each part that trains, and of each of its parameters."""
    scales = layer_scales(model, decay)
    parts: dict[tuple[str, float], dict[str, float | str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer = re.match(r".*?layers\.\d+", name)
            part = layer[0] if layer else ".".join(name.split(".")[:-1])
            parts.setdefault((part, scales[name]), {})[name] = highest * scales[name]
    for (part, scale), rates in sorted(parts.items(), key=lambda one: one[0][1]):
        yield Row("learning rate", f"at most {highest * scale:<9.3g} {part}", rates)


def _one_step(model: nn.Module, objective: Any, batch: Mapping[str, torch.Tensor]) -> float:
    terms = objective(model, batch)
    means = {name: term.sum / (term.count or 1.0) for name, term in terms.items()}
    whole = sum(terms[name].weight * mean for name, mean in means.items() if terms[name].weight)
    if not bool(torch.isfinite(whole)):
        raise RegardError("the loss of the worst batch is not finite before the first step")
    whole.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel() and parameter.grad is None:
            raise RegardError("the parameter gets no gradient", where=name)
    model.zero_grad()
    return float(means["loss"].detach())


def _try_run(ready: Ready, run: Run) -> Iterator[Row]:
    """One step, saved, opened as a user opens it, decoding what it is scored on."""
    changes: dict[str, Any] = {
        "training.max_steps": 1,
        "training.checkpoint.average": 0,
        "evaluation.metric": "loss",
        "evaluation.samples": 0,
    }
    trial = ready.recipe.override(changes)
    begun = time.perf_counter()
    fit(replace(ready, recipe=trial, settings=settings_of(trial)), run, ranks=Ranks())
    assert run.result is not None
    loss = run.result.scores.get("loss")
    seen = "no validation data" if loss is None else f"loss on the validation data {loss:.3f}"
    yield Row("one step", seen, {} if loss is None else {"loss": round(loss, 4)})
    task, model, _ = open_task(run.path)
    if ready.recipe.has("valid"):
        examples = task.read().first(SAMPLES)
        scores = task.evaluate(model, examples, {"strategy": "greedy", "max_length": 20}).scores
        seen = ", ".join(f"{score.name} {score.value:.1f}" for score in scores.values())
        what = "save, load, decode, score" if task.inputs == "texts" else "save, load, score"
        values = {name: score.value for name, score in scores.items()}
        yield Row(what, f"{len(examples)} {task.inputs}: {seen}", values)
    seconds = time.perf_counter() - begun
    yield Row("trial run", f"{seconds:.1f} s", {"seconds": round(seconds, 3)})


def _classes(model: nn.Module, objective: Any) -> int | None:
    """What the head chooses between; None where it does not choose."""
    head: Any = getattr(model, "head", None)
    weight = getattr(head.linear if isinstance(objective, Classes) else head, "weight", None)
    return None if weight is None else len(weight)


def _peak(device: torch.device, *, reset: bool = False) -> float:
    """Largest memory so far in MB; with ``reset``, what is held now, and the count begins anew."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 1e6
    with suppress(OSError, StopIteration):  # Linux
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
