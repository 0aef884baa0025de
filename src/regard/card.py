"""The model card of a run: what it is, what it reached, and the commands that use it."""

from __future__ import annotations

from typing import Any

from torch import nn

from regard import registry
from regard.recipe import Recipe
from regard.run import Run


def card(run: Run, recipe: Recipe, model: nn.Module) -> str:
    """Markdown for ``README.md`` in the run directory."""
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    some = "" if trained == parameters else f" ({trained:,} of them in this run)"
    environment = run.environment()
    evaluations = [line for line in run.metrics() if line.get("event") == "evaluation"]
    best = [line for line in evaluations if line.get("best")]
    task = registry.task(recipe.task)
    given, drawn = ("picture.jpg", "png") if task.inputs == "pictures" else ('"…"', "html")
    lines = [
        f"# {run.path.name}",
        "",
        f"A {recipe.family} for {recipe.task}, {parameters:,} parameters{some}, trained by regard "
        f"{environment.get('regard', '')} from the recipe in [recipe.toml](recipe.toml).",
        "",
        *_table(evaluations, best),
        f"Validation data: `{_described(recipe)}`. Seed {recipe.training.seed}, "
        f"{environment.get('precision')} on {environment.get('device')}, "
        f"{environment.get('threads')} threads, {environment.get('processor', '')}, "
        f"torch {environment.get('torch', '')}.",
        "",
        "```sh",
        f"regard {task.verb} {run.path} {given}",
        f"regard evaluate {run.path}",
        f"regard look {run.path} {given} -o attention.{drawn}",
        f"regard train {run.path} --resume   # if it was stopped",
        "```",
        "",
    ]
    return "\n".join(lines)


def _table(evaluations: list[dict[str, Any]], best: list[dict[str, Any]]) -> list[str]:
    if not evaluations:
        return []
    names = list(evaluations[-1]["scores"])
    lines = [
        "| | step | " + " | ".join(names) + " |",
        "| --- | --- | " + " | ".join("---" for _ in names) + " |",
    ]
    for title, found in (("best", best[-1:]), ("last", evaluations[-1:])):
        for line in found:
            values = " | ".join(f"{line['scores'][name]:.4g}" for name in names)
            lines.append(f"| {title} | {line['step']} | {values} |")
    return [*lines, ""]


def _described(recipe: Recipe) -> str:
    if recipe.data.valid is None:
        return "none"
    given = recipe.data.valid.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in given.items())
