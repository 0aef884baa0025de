"""Train a run or go on with it, score it, and keep what was found beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import regard
from regard.recipe import Recipe


def scored(
    recipe: str,
    settings: Sequence[str],
    path: Path,
    scores: Sequence[str],
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The scores of a run, from the file beside it if they are known.

    Args:
        recipe: the built-in one that it is trained by.
        settings: what is said over the recipe, ``key=value`` each.
        path: of the run. One that was stopped goes on, one that is finished is only scored.
        scores: which to keep.
        data: what is scored; none: the recipe's ``data.test``.

    Returns:
        The scores by name, ``steps``, ``parameters``, the ``minutes`` that steps took, and the
        ``recipe`` that they were made with.

    Raises:
        SystemExit: the run was stopped, or the file is of other settings.
    """
    kept = path.with_suffix(".json")
    said = Recipe.load(recipe, settings).dump()
    if kept.exists():
        made = dict(json.loads(kept.read_text(encoding="utf-8")))
        if made.get("recipe") != said:
            raise SystemExit(f"{kept} is of other settings: move it away, or take other --runs")
        return made
    run = regard.train(recipe, settings, run=path, resume=True)
    if run.result is not None and run.result.reason in ("interrupt", "terminate"):
        raise SystemExit(f"{path} was stopped; the same command goes on")
    found = regard.evaluate(run.path, data).scores
    model = regard.load(run.path).model
    made = {
        **{name: found[name].value for name in scores},
        **pace(events(path)),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "recipe": said,
    }
    kept.write_text(json.dumps(made), encoding="utf-8")
    print(path.name, {name: value for name, value in made.items() if name != "recipe"}, flush=True)
    return made


def events(run: Path) -> list[dict[str, Any]]:
    """What a run wrote of its steps and evaluations."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def pace(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Steps, and the minutes that they took by the rates of their time; evaluations are apart."""
    steps = {event["step"]: event for event in found if event["event"] == "step"}
    seconds, last = 0.0, 0
    for step in sorted(steps):
        # a rate is that of the steps since the event before
        each = steps[step]["tokens"] / steps[step]["tokens_per_second"]
        seconds += (step - last) * each
        last = step
    return {"steps": last, "minutes": seconds / 60}
