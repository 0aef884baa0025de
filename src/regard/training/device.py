"""What ``auto`` means here: device, precision and threads, chosen by what the machine has."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from regard.errors import RegardError
from regard.nn import backend
from regard.nn.processor import processor
from regard.training.settings import PrecisionName, TrainingSettings


def settle(settings: TrainingSettings) -> TrainingSettings:
    """The settings with what ``auto`` and 0 threads stand for on this machine.

    The recipe of a run keeps the result, so that a resumed run chooses the same.

    Raises:
        RegardError: for a device that is not there.
    """
    device = choose_device(settings.device)
    return dataclasses.replace(
        settings,
        device=settings.device if settings.device != "auto" else device.type,
        precision=choose_precision(settings.precision, device),
        threads=settings.threads or usual_threads(),
    )


def choose_device(name: str, local: int = 0) -> torch.device:
    """The torch device; ``auto`` is a GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        local: this rank's number on the machine, its GPU where the name gives none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not name.startswith("cuda"):
        raise RegardError(
            f"there is no device {name!r}",
            where="training.device",
            hint="known: auto, cpu, cuda, cuda:N",
        )
    if not torch.cuda.is_available():
        raise RegardError(
            "torch finds no GPU here", where="training.device", hint="use cpu or auto"
        )
    return torch.device(name if ":" in name else f"cuda:{local}")


def choose_precision(name: PrecisionName, device: torch.device) -> PrecisionName:
    """``auto`` is bfloat16 where the machine multiplies it fast, else float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if backend.fast_bfloat16() else "float32"


def usual_threads() -> int:
    """As many as torch would use, but no more than the cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return min(torch.get_num_threads(), allowed or torch.get_num_threads())


def machine() -> dict[str, Any]:
    """What this machine and its software are."""
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor().get("model name") or platform.processor(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "regard": importlib.metadata.version("regard"),
    }


MATTERS = ("machine", "processor", "torch", "regard", "threads", "ranks", "precision", "device")
"""Of a run's environment: where one differs, a resumed run may round otherwise."""


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that matters and was otherwise before, if anything was kept."""
    if not before:
        return []
    found = []
    if before.get("native", False) != now.get("native", False):  # older runs kept nothing of it
        used = "are used now" if now.get("native") else "are used no longer"
        found.append(f"operators in C++ {used}: dropout draws otherwise")
    for key in MATTERS:
        if before.get(key) is not None and before[key] != now.get(key):
            said = f"{key} was {before[key]} and is now {now.get(key)}"
            found.append(f"{said}: the last bits may differ")
    return found
