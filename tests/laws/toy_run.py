"""Train the toy model in a process of its own: ``python toy_run.py RUN [resume] [KEY=JSON…]``.

The exit status is the command line's: 0, 2 for an error, 130 or 143 for a signal. With ``serve`` it
takes orders on standard input and forks a process for each: importing torch costs seconds.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "training"))

from torch import Tensor, nn
from toy import ToyObjective, ToySource, ToyTerm, toy_model, toy_settings

from regard.errors import RegardError
from regard.run import Run
from regard.training import StepDone, as_line, join, train, validation_loss
from regard.training.settings import CheckpointSettings, EvaluationSettings


class Poisoned(ToyObjective):
    """No number for the micro-batch that begins with one example."""

    def __init__(self, example: int) -> None:
        self.example = example

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, ToyTerm]:
        terms = super().__call__(model, batch)
        if model.training and int(batch["example"][0]) == self.example:
            terms["loss"] = ToyTerm(terms["loss"].sum * math.nan, terms["loss"].count)
        return terms


def main(arguments: list[str]) -> int:
    path, *words = arguments
    options = {
        key: json.loads(value) for key, value in (w.split("=", 1) for w in words if "=" in w)
    }
    pause, width = options.pop("pause", 0.0), options.pop("width", 8)
    full_after = options.pop("full_after", -1)
    dropout, poisoned = options.pop("dropout", 0.1), options.pop("poisoned", -1)
    if "every_steps" in options:
        options["checkpoint"] = CheckpointSettings(every_steps=options.pop("every_steps"), keep=2)
    if "evaluate_every" in options:
        options["evaluation"] = EvaluationSettings(every_steps=options.pop("evaluate_every"))
    objective, source = ToyObjective(), ToySource()
    if poisoned >= 0:
        objective = Poisoned(10 * poisoned)

    def watch(event: object) -> None:
        if isinstance(event, StepDone):
            time.sleep(pause)
            if event.step == full_after:  # from now on files end at 60 kB, as on a full disk
                resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        elif (line := as_line(event)) is not None:
            print(line, flush=True)

    with join("cpu") as ranks, Run.hold(path, resume="resume" in words, ranks=ranks) as run:
        result = train(
            toy_model(width=width, dropout=dropout),
            objective,
            source,
            toy_settings(**options),
            evaluate=lambda model: validation_loss(model, objective, source),
            listeners=[*run.writers(tensorboard=False), watch],
            store=run.store,
            resume="resume" in words,
            ranks=ranks,
        )
    print(result.reason, result.step, flush=True)
    return result.exit_status


def guarded(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except RegardError as error:
        print(error, file=sys.stderr, flush=True)
        return 2


def serve() -> None:
    """Orders are JSON lines: ``start`` a process, ``poll`` it, ``wait`` for it."""
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            if (child := os.fork()) == 0:
                output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(output, 1)
                os.dup2(output, 2)
                os._exit(guarded(order["start"]))
            print(child, flush=True)
        else:
            child, flags = (order["poll"], os.WNOHANG) if "poll" in order else (order["wait"], 0)
            done, status = os.waitpid(child, flags)
            print(json.dumps(os.waitstatus_to_exitcode(status) if done else None), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        sys.exit(guarded(sys.argv[1:]))
