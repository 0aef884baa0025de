"""Checkpoints: directories with checksums that are there whole or not at all.

A checkpoint is written under a dot name, synced, renamed: what has its own name is complete. An
older one is deleted only after the newer is there. safetensors and JSON alone. Beside them are the
weights that do not train (``base``; the checkpoints say what its checksums must be), and the mean
that a run is used with (``mean``; it says of which checkpoints).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from regard.errors import CheckpointError
from regard.files import sha256, sync_directory, sync_file, write_json

FORMAT = 1
STATE, CHECKSUMS, WEIGHTS, EMA = "state.json", "checksums.json", "model", "ema"
PREFIX, REPLACED, DAMAGED = "step-", ".replaced-", "damaged-"
BASE, MEAN = "base", "mean"
ENDED = ("finished", "patience")
"""Why a run has ended where nothing stopped it."""
BASE_CHECKSUMS = f"../{BASE}/{CHECKSUMS}"
READ_BY_USE = {STATE, f"{WEIGHTS}.safetensors", f"{EMA}.safetensors", BASE_CHECKSUMS}

Tensors = Mapping[str, Tensor]
Which = int | Literal["last", "best"]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on the disk.

    Attributes:
        step: steps done when it was written.
        path: its directory.
    """

    step: int
    path: Path

    @property
    def base(self) -> Checkpoint:
        """What holds the weights that do not train, if there are such."""
        return Checkpoint(0, self.path.parent / BASE)

    def state(self) -> dict[str, Any]:
        """What is no tensor."""
        try:
            state = json.loads((self.path / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._broken(f"{STATE} cannot be read: {error}") from error
        if state.get("format", FORMAT) > FORMAT:
            raise CheckpointError(
                f"was written by a newer regard (format {state['format']})",
                where=str(self.path),
                hint="upgrade with: pip install --upgrade regard",
            )
        return dict(state)

    def has(self, name: str) -> bool:
        """Whether it holds the tensors called ``name``, e.g. ``ema``."""
        return self.file(name).exists()

    def file(self, name: str) -> Path:
        """The safetensors file of the tensors called ``name``."""
        return self.path / f"{name}.safetensors"

    def tensors(self, name: str = WEIGHTS) -> dict[str, Tensor]:
        """The tensors of one file, on the CPU; with the weights, those that do not train."""
        found = {}
        if name == WEIGHTS and self.base.path.exists():
            found = self.base.tensors(BASE)
        try:
            return {**found, **load_file(self.file(name))}
        except (OSError, SafetensorError) as error:
            raise self._broken(f"{name}.safetensors cannot be read: {error}") from error

    def fault(self, *, for_use: bool = False) -> str | None:
        """What is wrong with its files, or None: every one is there and has its checksum.

        Args:
            for_use: whether only weights are wanted, and what training alone reads may be altered.
        """
        try:
            sums = json.loads((self.path / CHECKSUMS).read_text(encoding="utf-8"))["sha256"]
            for name, expected in sums.items():
                if not (self.path / name).exists():
                    return f"{name} is missing"
                read = not for_use or name in READ_BY_USE
                if read and sha256(self.path / name) != expected:
                    return f"{name} was altered or cut short"
            if BASE_CHECKSUMS in sums and (fault := self.base.fault()) is not None:
                return f"of its {BASE}, {fault}"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{CHECKSUMS} cannot be used: {error}"
        return None if STATE in sums else f"{CHECKSUMS} does not list {STATE}"

    def check_for_use(self) -> None:
        """Raise what `fault` finds as a `CheckpointError`."""
        if fault := self.fault(for_use=True):
            raise self._broken(fault)

    def _broken(self, fault: str) -> CheckpointError:
        there = [] if self.path.name == BASE else CheckpointStore(self.path.parent).all()
        others = ", ".join(str(one.step) for one in there if one.step != self.step)
        hint = f"take another one: {others}" if others else "there is no other one"
        return CheckpointError(fault, where=str(self.path), hint=hint)


class CheckpointStore:
    """The checkpoints of a run.

    Args:
        directory: holds them; made at the first save.
        best_file: the pointer to the best one; by default ``best`` beside the directory.
        keep: how many of those on the rhythm stay, newest first; the newest and best always do.

    Attributes:
        notes: what files of tensors say of themselves; of several notes their order is chance.
    """

    def __init__(self, directory: Path, *, best_file: Path | None = None, keep: int = 5) -> None:
        self.directory = directory
        self.best_file = best_file or directory.parent / "best"
        self.keep = keep
        self.notes = {"format": "pt"}

    def all(self) -> list[Checkpoint]:
        """Complete checkpoints, oldest first."""
        found = []
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                number = path.name.removeprefix(PREFIX)
                if path.name.startswith(PREFIX) and number.isdecimal() and path.is_dir():
                    found.append(Checkpoint(int(number), path))
        return sorted(found, key=lambda one: one.step)

    def sweep(self) -> None:
        """Remove what a killed process left half-written or half-deleted."""
        try:
            leftovers = list(self.directory.glob(".*")) if self.directory.is_dir() else []
            for path in leftovers:
                own = self.directory / path.name.removeprefix(REPLACED)
                if path.name.startswith(REPLACED) and not own.exists():
                    path.rename(own)  # killed between the two renames of a replacement
                else:
                    shutil.rmtree(path)
            for path in self.best_file.parent.glob(f".{self.best_file.name}.*"):
                path.unlink()
        except OSError as error:
            raise CheckpointError(
                f"cannot be removed: {error.strerror}", where=str(error.filename)
            ) from error

    def newest_valid(self, *, for_use: bool = False) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint without a fault, and a warning for each that was passed by."""
        warnings: list[str] = []
        for checkpoint in reversed(self.all()):
            fault = checkpoint.fault(for_use=for_use)
            if fault is None:
                return checkpoint, warnings
            warnings.append(f"{checkpoint.path.name} is damaged ({fault}) and passed by")
        return None, warnings

    def set_aside(self, after: int) -> list[str]:
        """Rename what is newer than a step: a run goes on from there; a sentence for each.

        They are damaged, or else the run would go on from them, but nothing is thrown away.
        """
        done = []
        for one in self.all():
            if one.step > after:
                aside = self.directory / f"{DAMAGED}{one.path.name}"
                done.append(f"{one.path.name} is damaged ({one.fault()}): now {aside.name}")
                try:
                    if aside.exists():
                        shutil.rmtree(aside)
                    one.path.rename(aside)
                except OSError as error:
                    raise self._unwritten(aside, error) from error
        return done

    def best(self) -> Checkpoint | None:
        """The checkpoint that the pointer names, if there is one."""
        try:
            step = int(json.loads(self.best_file.read_text(encoding="utf-8"))["step"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"cannot be read: {error}", where=str(self.best_file)) from error
        return next((one for one in self.all() if one.step == step), None)

    def get(self, which: Which) -> Checkpoint:
        """A checkpoint for use, by its step, ``last`` or ``best``; its weights are checked.

        Raises:
            CheckpointError: there is none such, or it is damaged (``last``: all are).
        """
        if which == "last":
            found, warnings = self.newest_valid(for_use=True)
            if found is not None:
                return found
            if warnings:
                raise CheckpointError(warnings[0], where=str(self.directory))
        elif which == "best":
            found = self.best()
        else:
            found = next((one for one in self.all() if one.step == which), None)
        if found is None:
            steps = ", ".join(str(one.step) for one in self.all())
            raise CheckpointError(
                f"there is no checkpoint {which!r}",
                where=str(self.directory),
                hint=f"there are: {steps}" if steps else "train first, or go on with --resume",
            )
        found.check_for_use()
        return found

    def save(self, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any]) -> Checkpoint:
        """Write a checkpoint whole, in the place of an older one of the same step.

        Args:
            step: steps done.
            files: tensors by file, e.g. ``{"model": {…}, "optimizer": {…}}``.
            state: JSON values.

        Raises:
            CheckpointError: it cannot be written; those there already are untouched.
        """
        return Checkpoint(step, self._write(f"{PREFIX}{step:06d}", files, {"step": step, **state}))

    def save_base(self, tensors: Tensors) -> None:
        """Keep the weights that do not train; before the first checkpoint.

        Raises:
            CheckpointError: they cannot be written.
        """
        self._write(BASE, {BASE: tensors}, {})

    def save_mean(self, weights: Tensors, of: Mapping[str, str]) -> None:
        """Keep the mean of several checkpoints; ``of`` tells which (`regard.training.averaging`).

        Raises:
            CheckpointError: it cannot be written.
        """
        base = self.base_names()
        own = {name: weight for name, weight in weights.items() if name not in base}
        self._write(MEAN, {WEIGHTS: own}, {"of": dict(of)})

    def drop_mean(self) -> None:
        """Delete a mean that nobody asks for any more."""
        if (path := self.directory / MEAN).exists():
            self._remove(path)

    def base_names(self) -> set[str]:
        """Names of the weights that do not train."""
        base = Checkpoint(0, self.directory / BASE)
        if not base.path.exists():
            return set()
        with safe_open(base.file(BASE), framework="pt") as file:
            return set(file.keys())

    def _write(self, name: str, files: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
        """A directory of tensors and a state, there whole or not at all."""
        final, beside = self.directory / name, self.directory / f".{name}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if beside.exists():
                shutil.rmtree(beside)
            beside.mkdir()
            _fill(beside, files, {"format": FORMAT, **state}, self.notes)
            replaced = self.directory / f"{REPLACED}{name}"
            if final.exists():
                final.rename(replaced)
            beside.rename(final)
            sync_directory(self.directory)
            if replaced.exists():
                shutil.rmtree(replaced)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise self._unwritten(final, error) from error
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        return final

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """Point at the best checkpoint."""
        try:
            write_json(
                self.best_file, {"format": FORMAT, "step": step, "metric": metric, "value": value}
            )
        except OSError as error:
            raise self._unwritten(self.best_file, error) from error

    def prune(self) -> None:
        """Delete what need not stay: see ``keep``."""
        there = self._readable()  # a damaged one is nobody's to delete
        best = self.best()
        rhythm = [one.step for one in there if one.state().get("rhythm", True)]
        stay = {*rhythm[-self.keep :], there[-1].step if there else -1, best.step if best else -1}
        try:
            for one in there:
                if one.step not in stay:
                    self._remove(one.path)
        except OSError as error:
            raise CheckpointError(
                f"cannot be removed: {error.strerror}", where=str(error.filename)
            ) from error

    def _readable(self) -> list[Checkpoint]:
        """Those whose state can be read, oldest first."""
        found = []
        for one in self.all():
            with suppress(CheckpointError):
                one.state()
                found.append(one)
        return found

    def to_average(self, count: int, which: Literal["last", "best"] = "last") -> list[Checkpoint]:
        """The last checkpoints on the rhythm (and the run's last), or the best by their scores.

        Scores of another metric than the newest score's do not compare, and are left out.

        Raises:
            CheckpointError: there is none, or the state of one cannot be read.
        """
        there = self.all()
        states = {one.step: one.state() for one in there}
        if which == "best":
            scored = [one for one in there if states[one.step].get("value") is not None]
            metric = states[scored[-1].step].get("metric") if scored else None
            scored = [one for one in scored if states[one.step].get("metric") == metric]
            sign = -1 if any(states[one.step].get("higher_is_better") for one in scored) else 1
            scored.sort(key=lambda one: sign * float(states[one.step]["value"]))
            chosen = sorted(scored[:count], key=lambda one: one.step)
        else:
            usual = [one for one in there if states[one.step].get("rhythm", True)]
            ended = bool(there) and states[there[-1].step].get("reason") in ENDED
            if ended and there[-1] not in usual:
                usual.append(there[-1])
            chosen = usual[-count:] or there[-1:]
        if not chosen:
            raise CheckpointError("no checkpoint to average", where=str(self.directory))
        return chosen

    def _remove(self, path: Path) -> None:
        # Renamed first: a kill in the middle must not leave half of it under its own name.
        doomed = self.directory / f".old-{path.name}-{time.monotonic_ns()}"
        path.rename(doomed)
        shutil.rmtree(doomed)

    def _unwritten(self, path: Path, error: Exception) -> CheckpointError:
        reason = getattr(error, "strerror", None) or error
        others: Iterable[Checkpoint] = self.all()
        kept = ", ".join(one.path.name for one in others)
        return CheckpointError(
            f"cannot be written: {reason}",
            where=str(path),
            hint="free some space (or mend the directory's rights) and go on with --resume"
            + (f"; intact: {kept}" if kept else ""),
        )


def _fill(
    directory: Path,
    files: Mapping[str, Tensors],
    state: Mapping[str, Any],
    notes: Mapping[str, str],
) -> None:
    """Write all files and their checksums, synced."""
    sums: dict[str, str] = {}
    for name, tensors in files.items():
        path = directory / f"{name}.safetensors"
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(whole, path, metadata=dict(notes))
        sync_file(path)
        sums[path.name] = sha256(path)
    write_json(directory / STATE, state)
    sums[STATE] = sha256(directory / STATE)
    for name in files:  # safetensors makes files that nobody else may read
        shutil.copymode(directory / STATE, directory / f"{name}.safetensors")
    if (base := directory / BASE_CHECKSUMS).exists():
        sums[BASE_CHECKSUMS] = sha256(base)
    write_json(directory / CHECKSUMS, {"format": FORMAT, "sha256": sums})
    sync_directory(directory)
