"""The journey in Python: from a recipe to a trained run, and its scores.

The command line prints what happens here and does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from regard import registry
from regard.card import card
from regard.errors import RecipeError
from regard.load import open_task, start_weights
from regard.metrics import Comparison, Score, compare
from regard.nn import backend
from regard.recipe import Recipe, as_settings, carry_on
from regard.run import Run
from regard.tasks.task import Splits
from regard.training import (
    EvaluationSettings,
    Listener,
    Ranks,
    Report,
    TrainingSettings,
    join,
    settle,
    validation_loss,
)
from regard.training import train as run_loop

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
        recipe: a file, a built-in name, or a `Recipe`.
        overrides: ``{"training.seed": 2}`` or ``["training.seed=2"]``.
        run: the run directory; by default ``runs/NAME``.
        resume: go on with the same run (from its newest valid checkpoint, or from step 0 where
            there is none yet); a new run from other weights is ``model.start_from``.
        listeners: called with every event of the loop.
        say: called with lines worth reading; nobody by default.

    Returns:
        The run; ``run.result`` says how it ended.

    Raises:
        RegardError: what is wrong, where, and what to do.
    """
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe, overrides)
    if isinstance(recipe, Recipe) and overrides:
        loaded = loaded.override(overrides)
    loaded.check()
    path = Path(run) if run is not None else Path("runs") / Path(loaded.origin).stem
    with join(loaded.training.device) as ranks, Run.hold(path, resume=resume, ranks=ranks) as held:
        if resume and held.has_recipe:
            loaded = carry_on(Recipe.load(held.path, settled=True), loaded)
        return _train(loaded, held, ranks, resume, listeners, say or (lambda _: None))


def _train(
    recipe: Recipe,
    run: Run,
    ranks: Ranks,
    resume: bool,
    listeners: Sequence[Listener],
    say: Say,
) -> Run:
    tell = say if ranks.main else _nobody
    settings = settle(as_settings(recipe.training, TrainingSettings, where="training"))
    evaluation = as_settings(recipe.evaluation, EvaluationSettings, where="evaluation")
    settings = replace(settings, evaluation=evaluation)
    backend.keep_heap()
    torch.set_num_threads(settings.threads)
    task = registry.task(recipe.task)(recipe)
    with ranks.first():
        splits: Splits = task.prepare(run.path, tell)
    for note in splits.notes:
        tell(note)
    model = build_model(recipe, task, settings, tell)
    settings = with_width(settings, model)
    if ranks.main:
        run.write_recipe(settled(recipe, task, settings).dump())
        for warning in run.record_environment(_facts(settings, ranks)):
            tell(f"warning: {warning}")
    run.result = run_loop(
        model,
        task.objective(),
        splits.train,
        settings,
        evaluate=evaluator(task, splits, settings),
        listeners=[*run.writers(), *listeners],
        store=run.store,
        resume=resume,
        ranks=ranks,
    )
    if ranks.main:
        run.write_card(card(run, recipe, model))
    return run


def _nobody(line: str) -> None:
    """Where nobody reads."""


def _facts(settings: TrainingSettings, ranks: Ranks) -> dict[str, Any]:
    return {
        "precision": settings.precision,
        "threads": settings.threads,
        "ranks": ranks.world,
        "device": settings.device,
    }


def with_width(settings: TrainingSettings, model: nn.Module) -> TrainingSettings:
    """The paper's schedule follows from the model's width."""
    width = int(cast(Any, model).config.d_model)
    return replace(settings, schedule=replace(settings.schedule, d_model=width))


def settled(recipe: Recipe, task: Any, settings: TrainingSettings) -> Recipe:
    """The recipe with everything said: sizes that the data decide, and what ``auto`` chose."""
    chosen = {
        "training.device": settings.device,
        "training.precision": settings.precision,
        "training.threads": settings.threads,
    }
    return recipe.resolved(task.model_settings()).override(chosen)


def build_model(recipe: Recipe, task: Any, settings: TrainingSettings, say: Say) -> nn.Module:
    """The model with its first weights (random by the seed, or ``start_from``'s)."""
    config = recipe.model_config_for(task.model_settings())
    torch.manual_seed(settings.seed)
    model: nn.Module = registry.family(recipe.family).model(config)
    start = recipe.model.get("start_from")
    if start is not None:
        say(start_weights(model, Path(str(start))))
    return model


def evaluator(task: Any, splits: Splits, settings: TrainingSettings) -> ModelEvaluate | None:
    """What the loop calls to score a model: losses, and the task's score where it decides."""
    if splits.valid is None:
        return None
    objective, valid = task.objective(), splits.valid
    decodes = settings.evaluation.metric not in ("loss", "nll", "perplexity")
    samples = settings.evaluation.samples

    def evaluate(model: nn.Module) -> Report:
        scores = validation_loss(model, objective, valid)
        if decodes:
            found = task.evaluate(model, samples=samples)
            scores |= {name: score.value for name, score in found.scores.items()}
            shown = found.samples
        else:
            shown = task.show(model, samples)
        return Report(scores, tuple(vars(sample) for sample in shown))

    return evaluate


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of a run on one data set, and beside another run's where asked for.

    Attributes:
        run, versus: directories.
        examples: how many were scored.
        seconds: that decoding took.
        scores: by metric, with signature and 95 % interval.
        comparisons: paired tests against ``versus``.
    """

    run: str
    examples: int
    seconds: float
    scores: Mapping[str, Score]
    versus: str | None = None
    comparisons: Sequence[Comparison] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": self.run,
            "examples": self.examples,
            "seconds": round(self.seconds, 2),
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "versus": self.versus,
            "comparisons": [
                {
                    "name": one.name,
                    "run": one.system.value,
                    "versus": one.baseline.value,
                    "difference": one.difference,
                    "p_value": one.p_value,
                    "signature": one.signature,
                }
                for one in self.comparisons
            ],
        }


RESAMPLES = 1000


def evaluate(
    run: str | Path,
    data: Mapping[str, Any] | None = None,
    *,
    versus: str | Path | None = None,
    beam: int | None = None,
    precision: Any = None,
    device: str = "auto",
) -> EvaluationReport:
    """Score a run on its test data, or on ``data`` in the recipe's words.

    Args:
        run: the run directory.
        data: e.g. ``{"source": F, "target": F}``.
        versus: another run on the same data, for a paired test.
        beam, precision, device: otherwise than the recipe says.
    """
    task, model = open_task(run, precision=precision, device=device)
    if data is None and task.recipe.data.test is None:
        raise RecipeError(
            "the run's recipe names no test data",
            where="data.test",
            hint="give files: --source FILE --target FILE",
        )
    sources, references = task.read_pairs(data, split="test")
    begun = time.perf_counter()
    outputs = task.predictor(model).translate(sources, beam=beam)
    seconds = time.perf_counter() - begun
    found = task.score(sources, references, outputs, resamples=RESAMPLES)
    comparisons: Sequence[Comparison] = ()
    if versus is not None:
        other_task, other = open_task(versus, precision=precision, device=device)
        others = other_task.predictor(other).translate(sources, beam=beam)
        comparisons = compare(
            others,
            outputs,
            references,
            tokenize=task.bleu_tokens,
            lowercase=task.recipe.tokenizer.lowercase,
        )
    name = None if versus is None else str(versus)
    return EvaluationReport(
        str(run), len(sources), seconds, found.scores, versus=name, comparisons=comparisons
    )
