"""Slots: a family's parameters by name and shape, filled from the field's files and emptied again.

A table says which of a file's tensors goes into which slot. Tensors are only cut, joined and
transposed, never computed with, so a round trip gives the same bits, in the file's own dtype.

Shapes: a slot is a parameter [out, in] or [n], or a named slice of rows of a `SplitLinear`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.errors import CheckpointError
from regard.nn.linear import SplitLinear

SHOWN = 4


@dataclass(frozen=True)
class Entry:
    """One line of a table; ``{}`` stands for the number of a layer, in both names.

    Attributes:
        ours: a slot; ``x.weight[keys]`` is a slice of a `SplitLinear`.
        theirs: the tensor's name in the file.
        transpose: whether the file holds it as [in, out].
        axes: lengths of the slot's axes and of the file's, where the same numbers in the same order
            have others there.
    """

    ours: str
    theirs: str
    transpose: bool = False
    axes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def read(self, tensor: Tensor) -> Tensor:
        """The file's tensor as ours."""
        if self.axes is not None and tensor.shape == self.axes[1]:
            tensor = tensor.reshape(self.axes[0])
        return tensor.t() if self.transpose and tensor.dim() == 2 else tensor

    def write(self, tensor: Tensor) -> Tensor:
        """Ours as the file's."""
        tensor = tensor.t() if self.transpose else tensor
        return tensor if self.axes is None else tensor.reshape(self.axes[1])


Table = Sequence[Entry]


def slots_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its (first) name; the model may be on the meta device."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def parts_of(model: nn.Module) -> dict[str, dict[str, slice]]:
    """The named slices of rows of each `SplitLinear` parameter."""
    found: dict[str, dict[str, slice]] = {}
    for name, module in model.named_modules():
        if isinstance(module, SplitLinear):
            rows, start = {}, 0
            for part, width in module.widths.items():
                rows[part] = slice(start, start + width)
                start += width
            for kind, _ in module.named_parameters():
                found[f"{name}.{kind}"] = rows
    return found


def fill(
    model: nn.Module, table: Table, tensors: Mapping[str, Tensor], *, where: str
) -> dict[str, Tensor]:
    """The model's parameters from a file's tensors, in their own dtype.

    Raises:
        CheckpointError: a slot is left empty, filled twice or of another shape, or a tensor has
            no slot; each is named.
    """
    shapes, parts = slots_of(model), parts_of(model)
    pieces: dict[str, dict[str, Tensor]] = {}
    faults: list[str] = []
    for theirs, tensor in tensors.items():
        target = _target(table, theirs)
        if target is None:
            faults.append(f"{theirs} has no place in the model")
            continue
        name, part, entry = target
        held = entry.read(tensor)
        shape = _shape(shapes, parts, name, part)
        if shape is None:
            faults.append(f"{theirs} has no place in the model")
        elif tuple(held.shape) != shape:
            faults.append(f"{theirs} has shape {list(tensor.shape)}, its place {list(shape)}")
        elif part in pieces.get(name, {}) or (pieces.get(name) and "" in (part, *pieces[name])):
            faults.append(f"{name} is filled twice, by {theirs} too")
        else:
            pieces.setdefault(name, {})[part] = held
    filled: dict[str, Tensor] = {}
    for name in shapes:
        given = pieces.get(name, {})
        wanted = [""] if "" in given or name not in parts else list(parts[name])
        missing = [part for part in wanted if part not in given]
        if missing:
            faults += [f"{_slot(name, part)} is left empty" for part in missing]
        elif not faults:
            filled[name] = torch.cat([given[part] for part in wanted]).contiguous()
    if faults:
        more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
        raise CheckpointError("; ".join(faults[:SHOWN]) + more, where=where)
    return filled


def empty(model: nn.Module, table: Table, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `fill`: a file's tensors from the model's parameters.

    Raises:
        CheckpointError: the format has no name for a parameter.
    """
    parts, made = parts_of(model), dict[str, Tensor]()
    for name, tensor in tensors.items():
        found = False
        for part in ("", *parts.get(name, {})):
            for entry in table:
                number = _number(entry.ours, _slot(name, part))
                if number is not None:
                    held = tensor[parts[name][part]] if part else tensor
                    theirs = entry.theirs.replace("{}", number)
                    made[theirs] = entry.write(held).contiguous()
                    found = True
            if found and not part:
                break
        if not found:
            raise CheckpointError(f"the format has no name for {name}")
    return made


def _target(table: Table, theirs: str) -> tuple[str, str, Entry] | None:
    """Parameter, part and line of the table, of a tensor's name in the file."""
    for entry in table:
        number = _number(entry.theirs, theirs)
        if number is not None:
            name, _, part = entry.ours.replace("{}", number).partition("[")
            return name, part.rstrip("]"), entry
    return None


def matches(pattern: str, name: str) -> bool:
    """Whether a tensor's name follows a pattern with ``{}``."""
    return _number(pattern, name) is not None


def _number(pattern: str, name: str) -> str | None:
    """The layer's number where a name follows a pattern; empty where that has none."""
    match = re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)"), name)
    if match is None:
        return None
    return match[1] if match.groups() else ""


def _shape(
    shapes: Mapping[str, tuple[int, ...]],
    parts: Mapping[str, Mapping[str, slice]],
    name: str,
    part: str,
) -> tuple[int, ...] | None:
    whole = shapes.get(name)
    if whole is None or not part:
        return whole
    rows = parts.get(name, {}).get(part)
    return None if rows is None else (rows.stop - rows.start, *whole[1:])


def _slot(name: str, part: str) -> str:
    return f"{name}[{part}]" if part else name
