"""The run directory: all that one training leaves behind, moved by copying it.

recipe.toml       the resolved recipe            metrics.jsonl   figures, a JSON object a line
tokenizer.json    text to tokens                 tensorboard/    the same for TensorBoard
checkpoints/      step-000500/ …                 log.txt         what happened, in words
best              which checkpoint is            environment.json  what it was trained on
README.md         a model card
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor, nn

from regard import registry
from regard.errors import CheckpointError, RunError
from regard.files import write_json, write_text
from regard.training import (
    Checkpoint,
    CheckpointStore,
    Listener,
    MetricsWriter,
    Ranks,
    Result,
    TensorBoardWriter,
    TextWriter,
    changes,
    kept_mean,
    load_weights,
    machine,
    mean_for_use,
    weights_for_use,
)

FORMAT = 1
LOCK = ".lock"
LEARNED = ("tokenizer*.json", "labels.json", "answering.json", "dialogue.json")
"""What tasks learn from the data and keep in a run, before it has its recipe."""
RECIPE, METRICS, TOKENIZER, ENVIRONMENT, CARD = (
    "recipe.toml",
    "metrics.jsonl",
    "tokenizer.json",
    "environment.json",
    "README.md",
)


class Run:
    """A run directory.

    `create` begins one, `open` reads one. A process that writes to it holds `lock`.

    Attributes:
        path: the directory.
        result: how the training of this process ended; None where there was none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result: Result | None = None
        self._lock: int | None = None
        self._was_empty = False

    def __repr__(self) -> str:
        ended = "" if self.result is None else f": {self.result.reason} at {self.result.step}"
        return f"<Run {self.path}{ended}>"

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, resume: bool = False) -> Self:
        """Make the directory and lock it for this process.

        Args:
            path: a new or empty directory; with ``resume`` also one with a run in it.
            resume: whether the run may be there already.

        Raises:
            RunError: it holds files already, is in use, or cannot be written.
        """
        run = cls(Path(path))
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            everything = [one.name for one in run.path.iterdir()]
        except OSError as error:
            raise run._unwritable(error) from error
        run._was_empty = not everything
        there = [name for name in everything if not name.startswith(".")]
        if there and not resume:
            raise RunError(
                "there are files in this directory already",
                where=str(path),
                hint="give another directory, or --resume to go on with the run in it",
            )
        if there and not {LOCK, RECIPE} & set(everything):
            raise RunError(
                "this directory holds something else than a run",
                where=str(path),
                hint="give another directory",
            )
        run.lock()
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """A run that is there, to be read.

        Raises:
            RunError: the directory is missing or no run, or was written by a newer regard.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            what = "this is a file, not a run" if run.path.exists() else "there is no such run"
            raise RunError(what, where=str(path), hint="see: regard runs DIR")
        if not (run.path / RECIPE).exists():
            raise RunError(
                f"this is no run: it has no {RECIPE}",
                where=str(path),
                hint="a run is the directory that `regard train --run DIR` writes",
            )
        environment = run.environment()
        written = environment.get("format", FORMAT)
        if written > FORMAT:
            raise RunError(
                f"was written by a newer regard (format {written})",
                where=str(path),
                hint="upgrade with: pip install --upgrade regard",
            )
        run._check_plugins(dict(environment.get("plugins", {})))
        return run

    def _check_plugins(self, needed: Mapping[str, str]) -> None:
        for what, package in needed.items():
            group, _, name = what.partition(".")
            if registry.plugin(group, name) is None and name not in registry.names(group):
                raise RunError(
                    f"the run needs {what} of the package {package}, which is not installed",
                    where=str(self.path),
                    hint=f"pip install {package}",
                )

    @classmethod
    @contextmanager
    def hold(
        cls, path: str | os.PathLike[str], *, resume: bool = False, ranks: Ranks | None = None
    ) -> Iterator[Self]:
        """`create` on rank 0, which keeps the lock in the block; the other ranks come after it."""
        ranks = ranks or Ranks()
        with ranks.first():
            run = cls.create(path, resume=resume) if ranks.main else cls(Path(path))
            if ranks.main and not run._begun:
                run._forget_learned()
        try:
            yield run
        except Exception:
            if ranks.main and run._was_empty and not run._begun:
                run._remove_beginnings()
            raise
        finally:
            run.unlock()

    @property
    def _begun(self) -> bool:
        return self.has_recipe or bool(self.store.all())

    def _forget_learned(self) -> None:
        """One that ended before it kept its recipe may have learned otherwise."""
        for pattern in LEARNED:
            for path in self.path.glob(pattern):
                path.unlink()

    def _remove_beginnings(self) -> None:
        """Leave no directory behind that never became a run, so that the next attempt may have it.

        The directory was empty: what is there this process made.
        """
        self._forget_learned()
        shutil.rmtree(self.path / "data", ignore_errors=True)
        with suppress(OSError):
            if [one.name for one in self.path.iterdir()] == [LOCK]:
                (self.path / LOCK).unlink()
                self.path.rmdir()

    # Writing

    def lock(self) -> None:
        """Keep other processes from writing here until this one ends or calls `unlock`.

        Raises:
            RunError: another one does, or the directory cannot be written.
        """
        if self._lock is not None:
            return
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no flock
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(
                "another process is training this run",
                where=str(self.path),
                hint="wait for it or stop it; two would spoil each other's files",
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_recipe(self, text: str) -> None:
        """Keep the resolved recipe."""
        self.write(RECIPE, text)

    def write_card(self, text: str) -> None:
        """Write the model card."""
        self.write(CARD, text)

    def write(self, name: str, text: str) -> None:
        """Write a text file whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        try:
            write_text(self.path / name, text)
        except OSError as error:
            raise self._unwritable(error) from error

    def record_environment(self, facts: Mapping[str, Any]) -> list[str]:
        """Keep what the run is trained on; a sentence for each thing that was otherwise before.

        Args:
            facts: what was chosen: ``precision``, ``threads``, ``ranks``, ``device``, and whether
                operators in C++ were there (``native``).
        """
        now = {"format": FORMAT, **machine(), **facts}
        before = self.environment()
        if before == now:
            return []
        try:
            write_json(self.path / ENVIRONMENT, now)
        except OSError as error:
            raise self._unwritable(error) from error
        return changes(before, now)

    def writers(self, *, tensorboard: bool = True) -> list[Listener]:
        """Listeners that write the run's files; TensorBoard's where its package is installed."""
        made: list[Listener] = [
            MetricsWriter(self.path / METRICS),
            TextWriter(self.path / "log.txt"),
        ]
        if tensorboard:
            with suppress(importlib.metadata.PackageNotFoundError):
                importlib.metadata.version("tensorboard")
                made.append(TensorBoardWriter(self.path / "tensorboard"))
        return made

    # Reading

    @property
    def store(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore(self.path / "checkpoints", best_file=self.path / "best")

    @property
    def has_recipe(self) -> bool:
        """Whether the run got so far as to keep its recipe."""
        return (self.path / RECIPE).exists()

    def environment(self) -> dict[str, Any]:
        """What the run was trained on; empty before it began."""
        try:
            return dict(json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(
                f"cannot be read: {error}", where=str(self.path / ENVIRONMENT)
            ) from error

    def metrics(self, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last one that is being written is left out.

        Args:
            warn: told of each other line that is damaged, and left out too.
        """
        path = self.path / METRICS
        if not path.exists():
            return []
        found = []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError):
                if warn is not None and line.endswith("\n"):
                    warn(f"{path}:{number}: this line is damaged and left out")
        return found

    def checkpoint(self, which: int | str = "last") -> Checkpoint:
        """A checkpoint by its step, ``last`` or ``best``; its checksums are checked.

        Raises:
            CheckpointError: there is none such, or it is damaged.
        """
        if which == "last":
            return self.store.get("last")
        if which == "best":
            return self.store.get("best")
        if isinstance(which, str) and not which.isdecimal():
            raise CheckpointError(
                f"there is no checkpoint {which!r}", hint="give last, best or a step"
            )
        return self.store.get(int(which))

    def weights(self, which: int | str = "auto") -> tuple[dict[str, Tensor], str]:
        """Weights for use, by name, float32; and in words which they are.

        Args:
            which: ``auto`` (the mean of the last k where the recipe asks for it, else the best,
                else the newest), ``best``, ``last`` or a step. Where a checkpoint holds a moving
                average, that is meant.

        Raises:
            CheckpointError: there is none such, or it is damaged.
        """
        if which == "auto" and (count := self._average()):
            tensors, steps = self.average(count)
            return tensors, f"mean of steps {', '.join(map(str, steps))}"
        if which == "auto":
            which = "best" if self.store.best() else "last"
        checkpoint = self.checkpoint(which)
        kind = "" if isinstance(which, int) or which.isdecimal() else f"{which}, "
        return weights_for_use(checkpoint), f"{kind}step {checkpoint.step}"

    def average(
        self, count: int, which: Literal["last", "best"] = "last"
    ) -> tuple[dict[str, Tensor], list[int]]:
        """The mean of the last or best checkpoints' weights, and the steps it is of.

        Where they hold moving averages, the mean is of these.

        Raises:
            CheckpointError: there is none, or one is damaged and their mean is not kept.
        """
        chosen = self.store.to_average(count, which)
        return kept_mean(chosen) or mean_for_use(chosen), [one.step for one in chosen]

    def load_weights(self, model: nn.Module, which: int | str = "auto") -> str:
        """Put `weights` into a model, every tensor in its place; says in words which they are.

        Raises:
            CheckpointError: naming what does not fit.
        """
        tensors, name = self.weights(which)
        load_weights(model, tensors, str(self.path))
        return name

    def _average(self) -> int:
        """How many checkpoints the recipe wants averaged."""
        try:
            recipe = tomllib.loads((self.path / RECIPE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot be read: {error}", where=str(self.path / RECIPE)) from error
        return int(recipe.get("training", {}).get("checkpoint", {}).get("average", 0))

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(
            f"cannot be written: {error.strerror or error}",
            where=str(error.filename or self.path),
            hint="give a directory that you may write to, on a disk with room",
        )
