"""One model type of the field's files: how its config reads, and which tensor is which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.interop.settings import Settings
from regard.interop.slots import Table


@dataclass(frozen=True)
class Format:
    """A model type of Hugging Face's.

    Attributes:
        model_type: its name in ``config.json``.
        family: ours.
        architectures: those understood, with the prefix that their tensors have before the table's
            names (a head's tensors excepted).
        read: from their settings to our family's.
        write: from our config to their settings, ``architectures`` among them.
        table: which tensor is which, under our config.
        tied: tensors that are one under our config, the first of them in the table; a file may
            hold either, or both.
        ignored: tensors that hold no parameter, such as masks; patterns with ``{}``.
        unused: by architecture, parameters that files of it may hold for heads that it does not
            have; left out, and said so.
        pixels: mean and deviation that each channel of a picture usually has, of pixels in 0 to 1;
            None: its models read text.
    """

    model_type: str
    family: str
    architectures: Mapping[str, str]
    read: Callable[[Settings], dict[str, Any]]
    write: Callable[[Any], dict[str, Any]]
    table: Callable[[Any], Table]
    tied: Callable[[Any], Sequence[tuple[str, str]]] = lambda config: ()
    ignored: tuple[str, ...] = ()
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pixels: tuple[Sequence[float], Sequence[float]] | None = None


def pairs(names: Mapping[str, str], kinds: tuple[str, ...] = ("weight", "bias")) -> dict[str, str]:
    """``{"a": "b"}`` → ``{"a.weight": "b.weight", "a.bias": "b.bias"}``."""
    return {f"{a}.{kind}": f"{b}.{kind}" for a, b in names.items() for kind in kinds}


def inverse(words: Mapping[str, str]) -> dict[str, str]:
    """Our words to theirs; of several the first."""
    return {ours: theirs for theirs, ours in reversed(list(words.items()))}
