"""Live progress: a bar and the latest figures in a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from regard.training.events import Evaluated, Event, Saved, Started, StepDone, Stopped, Warned
from regard.training.writers import as_line

PLAIN_SECONDS = 30.0
"""Least time between two plain lines about steps."""


def listener(console: Console | None = None) -> Lines | Bar:
    """A bar where there is a terminal, else lines."""
    console = console or Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


class Lines:
    """Plain lines on standard error: no carriage returns, so that a log stays readable."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._said = 0.0

    def __call__(self, event: Event) -> None:
        """Print what is worth a line."""
        self._clock.take(event)
        if isinstance(event, StepDone):
            if time.monotonic() - self._said < PLAIN_SECONDS:
                return
            self._said = time.monotonic()
            self._print(f"{_figures(event)}, {self._clock.left()}")
            return
        line = as_line(event)
        if line is not None and not isinstance(event, Saved):
            self._print(line)
        if isinstance(event, Evaluated):
            for sample in event.samples[:1]:
                self._print(_sample(sample))

    def close(self) -> None:
        """Nothing is held back."""

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bar:
    """A live display: how far, how fast, how long still; scores and samples beneath."""

    def __init__(self, console: Console) -> None:
        self._clock = Clock()
        self._progress = Progress(
            TextColumn("{task.fields[done]}"), BarColumn(), TextColumn("{task.fields[figures]}")
        )
        self._task = self._progress.add_task("", total=None, done="", figures="")
        self._scores = Table(box=None, padding=(0, 2, 0, 0))
        self._evaluations: list[Evaluated] = []
        self._live = Live(self._view(), console=console, refresh_per_second=4, transient=False)
        self._open = False

    def __call__(self, event: Event) -> None:
        """Show the event."""
        self._clock.take(event)
        if isinstance(event, Started):
            self._live.start()
            self._open = True
            self._live.console.print(Text(as_line(event) or "", style="dim"))
            self._progress.update(self._task, total=event.horizon, completed=event.step)
        elif isinstance(event, StepDone):
            self._progress.update(
                self._task,
                total=self._clock.horizon,
                completed=event.step,
                done=f"step {event.step}",
                figures=f"{_figures(event, step=False)}, {self._clock.left()}",
            )
        elif isinstance(event, Evaluated):
            self._evaluations = [*self._evaluations[-4:], event]
            self._live.update(self._view())
        elif isinstance(event, Warned):
            self._live.console.print(Text(f"warning: {event.text}", style="yellow"))
        elif isinstance(event, Stopped):
            self.close()
            self._live.console.print(Text(as_line(event) or ""))

    def close(self) -> None:
        """Leave the terminal as a program that printed lines would."""
        if self._open:
            self._live.stop()
            self._open = False

    def _view(self) -> Group:
        rows: list[Any] = [self._progress]
        if self._evaluations:
            rows.append(self._score_table())
            for sample in self._evaluations[-1].samples[:2]:
                # On one line each, however long: a display that grows and shrinks cannot be read.
                text = Text(_sample(sample), style="dim", no_wrap=True, overflow="ellipsis")
                rows.append(text)
        return Group(*rows)

    def _score_table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("after step", justify="right")
        names = list(self._evaluations[-1].scores)
        for name in names:
            table.add_column(name, justify="right")
        table.add_column("")
        for found in self._evaluations:
            values = [f"{found.scores.get(name, float('nan')):.4g}" for name in names]
            table.add_row(str(found.step), *values, "best" if found.best else "")
        return table


class Clock:
    """How long the run still takes, from what its steps and evaluations took."""

    def __init__(self) -> None:
        self.horizon: int | None = None
        self._first: tuple[int, float] | None = None
        self._last = 0

    def take(self, event: Event) -> None:
        """Note when things happen."""
        if isinstance(event, Started):
            self.horizon = event.horizon
            self._first, self._last = None, event.step
        elif isinstance(event, StepDone):
            self._last = event.step
            self._first = self._first or (event.step, time.monotonic())

    def left(self) -> str:
        """In words."""
        if self._first is None or not self.horizon or self._last <= self._first[0]:
            return "time left unknown yet"
        per_step = (time.monotonic() - self._first[1]) / (self._last - self._first[0])
        return f"{duration(per_step * (self.horizon - self._last))} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def _figures(event: StepDone, *, step: bool = True) -> str:
    loss = event.terms.get("loss", float("nan"))
    start = f"step {event.step}, " if step else ""
    return f"{start}loss {loss:.3f}, {event.tokens_per_second:,.0f} tokens/s"


def _sample(sample: Any) -> str:
    if not isinstance(sample, dict):
        return str(sample)
    width = max(len(name) for name in sample)
    return "\n".join(f"  {name:>{width}}: {text}" for name, text in sample.items())
