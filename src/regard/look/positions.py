"""What a position scheme tells a model: its vectors, and how alike two positions are.

Shapes: table [N, d], similarity [N, N], by_offset [2N - 1].

A scheme has three doors (`regard.nn.positions.scheme`). Vectors added to the states are compared
by their cosine; turned queries and keys by the dot product of one and the same unit vector at two
positions; a bias on the scores is shown as it is, as the mean of its heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from regard.errors import RegardError
from regard.nn.positions.scheme import PositionScheme

Door = Literal["added", "turned", "bias"]


@dataclass(frozen=True, eq=False)
class Positions:
    """A stack's positions, ready to be drawn.

    Attributes:
        stack: its name.
        kind: the scheme's class.
        door: how it enters.
        table: what is added to the states [N, d]; None for the other doors.
        similarity: of each pair of positions [N, N].
    """

    stack: str
    kind: str
    door: Door
    table: Tensor | None
    similarity: Tensor

    @property
    def by_offset(self) -> Tensor:
        """Mean similarity of the pairs (i, i + k), for k = 1 - N … N - 1: [2N - 1]."""
        count = len(self.similarity)
        offsets = range(1 - count, count)
        return torch.stack([self.similarity.diagonal(offset).mean() for offset in offsets])


def positions(model: nn.Module, *, length: int = 64) -> list[Positions]:
    """The position schemes of a model's stacks, over their first ``length`` positions.

    Stacks whose schemes give the same numbers are one entry, its name joined by ``+``.

    Raises:
        RegardError: when no stack knows positions, or only such as answer to queries.
    """
    found: list[Positions] = []
    for name, module in model.named_modules():
        if isinstance(module, PositionScheme):
            stack = name.removesuffix(".positions").split(".")[-1] or "model"
            one = _describe(stack, module, min(length, module.size.max_positions))
            if one is not None:
                found.append(one)
    if not found:
        raise RegardError(
            "this model knows no positions without a text, so there is nothing to draw",
            hint="tables of distances, such as Shaw's, answer to queries",
        )
    return _joined(found)


@torch.no_grad()
def _describe(stack: str, scheme: PositionScheme, length: int) -> Positions | None:
    weight = next(iter(scheme.parameters()), next(iter(scheme.buffers()), torch.zeros(())))
    at = torch.arange(length, device=weight.device)[None]  # [1, N]
    kind = type(scheme).__name__
    table = scheme.add(weight.new_zeros(1, length, scheme.size.d_model), at, 0)[0].float().cpu()
    if bool(table.any()):
        unit = torch.nn.functional.normalize(table, dim=-1)
        return Positions(stack, kind, "added", table, unit @ unit.T)
    bias = scheme.bias(at, at)
    if bias is not None:
        return Positions(stack, kind, "bias", None, bias[0].float().mean(dim=0).cpu())
    width = scheme.size.d_key
    unit = weight.new_full((1, 1, length, width), width**-0.5)
    turned = scheme.turn(unit, scheme.prepare(at, unit.dtype))[0, 0].float().cpu()  # [N, d_key]
    if torch.equal(turned, unit[0, 0].float().cpu()):
        return None
    return Positions(stack, kind, "turned", None, turned @ turned.T)


def _joined(found: list[Positions]) -> list[Positions]:
    joined: list[Positions] = []
    for one in found:
        for index, other in enumerate(joined):
            if other.door == one.door and torch.equal(other.similarity, one.similarity):
                name = f"{other.stack} + {one.stack}"
                joined[index] = Positions(name, *_rest(other))
                break
        else:
            joined.append(one)
    return joined


def _rest(one: Positions) -> tuple[str, Door, Tensor | None, Tensor]:
    return one.kind, one.door, one.table, one.similarity
