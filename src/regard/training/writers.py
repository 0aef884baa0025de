"""Listeners that write files: lines of metrics, plain text, TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from regard.errors import RunError, missing_extra
from regard.files import sync_file
from regard.training.events import (
    Evaluated,
    Event,
    Saved,
    Started,
    StepDone,
    Stopped,
    Warned,
)


@runtime_checkable
class Resumable(Protocol):
    """A listener whose file is cut back to a checkpoint when a run goes on from there."""

    name: str

    def mark(self) -> int:
        """Bytes written so far, safely on the disk."""
        ...

    def cut_back(self, mark: int) -> None:
        """Forget all that was written after ``mark``."""
        ...


class LineFile:
    """A text file of whole lines, appended to; see `Resumable`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def write(self, line: str) -> None:
        """Append one line; the file is open no longer than that."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def mark(self) -> int:
        """Bytes written so far, once they are on the disk."""
        try:
            sync_file(self.path)
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def cut_back(self, mark: int) -> None:
        """Drop what stands after ``mark`` bytes."""
        try:
            if self.path.exists() and self.path.stat().st_size > mark:
                os.truncate(self.path, mark)
        except OSError as error:
            raise _unwritable(self.path, error) from error


class MetricsWriter(LineFile):
    """``metrics.jsonl``: a JSON object for each logged step and each evaluation."""

    def __call__(self, event: Event) -> None:
        """Write what has figures."""
        if isinstance(event, StepDone) and event.logged:
            record = {"event": "step", **plain(event)}
            del record["logged"]
            self.write(json.dumps(record))
        elif isinstance(event, Evaluated):
            self.write(json.dumps({"event": "evaluation", **plain(event)}))


class TextWriter(LineFile):
    """``log.txt``: a plain line for each event."""

    def __call__(self, event: Event) -> None:
        """Write the event's line, with the time of day."""
        line = as_line(event)
        if line is not None:
            self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")


class TensorBoardWriter:
    """Scalars for TensorBoard, which drops later points itself when a run goes on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Write the event's figures."""
        if isinstance(event, Started):
            self._open(event.step)
        if self._writer is None:
            return
        if isinstance(event, StepDone) and event.logged:
            figures = {f"train/{name}": value for name, value in event.terms.items()}
            figures["train/rate"] = event.rate
            figures["train/tokens_per_second"] = event.tokens_per_second
            figures["gradient_norm/all"] = event.gradient_norm
            for name, value in event.layer_norms.items():
                figures[f"gradient_norm/{name}"] = value
            self._add(figures, event.step)
        elif isinstance(event, Evaluated):
            self._add({f"valid/{k}": v for k, v in event.scores.items()}, event.step)
        elif isinstance(event, Saved):
            self._writer.flush()
        elif isinstance(event, Stopped):
            self._writer.close()
            self._writer = None

    def _add(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def _open(self, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_extra("tensorboard", "tensorboard") from error
        # What a killed process wrote after this step is written again.
        self._writer = SummaryWriter(str(self.directory), purge_step=step + 1 if step else 0)


def plain(event: Event) -> dict[str, Any]:
    """An event as JSON values; figures rounded to what they mean."""
    record = dataclasses.asdict(event)
    return {key: _rounded(value) for key, value in record.items() if value not in ((), {})}


def as_line(event: Event) -> str | None:
    """An event as a line of text, or None where it is not worth one."""
    match event:
        case Started():
            return _started(event)
        case StepDone(logged=True):
            terms = " ".join(f"{name} {value:.4f}" for name, value in event.terms.items())
            return (
                f"step {event.step} epoch {event.epoch:.2f} {terms} "
                f"gradient {event.gradient_norm:.3g} rate {event.rate:.3g} "
                f"tokens/s {event.tokens_per_second:,.0f}"
            )
        case Evaluated():
            scores = " ".join(f"{name} {value:.4f}" for name, value in event.scores.items())
            best = " (best)" if event.best else ""
            return f"evaluation after step {event.step}: {scores}{best} in {event.seconds:.1f} s"
        case Saved():
            return f"saved {event.path.name} in {event.seconds:.1f} s"
        case Warned():
            return f"warning: {event.text}"
        case Stopped():
            return f"stopped after step {event.step}: {event.reason}"
    return None


def _started(event: Started) -> str:
    begins = f"goes on after step {event.step}" if event.resumed else "starts at step 0"
    ends = f" of {event.horizon}" if event.horizon else ""
    note = f"; {event.note}" if event.note else ""
    return (
        f"training {begins}{ends}: {event.parameters:,} parameters, {event.precision} on "
        f"{event.device}, {counted(event.threads, 'thread')}"
        f"{'' if event.ranks == 1 else f', {event.ranks} ranks'}{note}"
    )


def counted(number: int, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        hint="free some space and go on with --resume",
    )
