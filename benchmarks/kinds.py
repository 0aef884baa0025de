"""The layers of the paper's table 1 at one width: self-attention, LSTM, convolutions.

Shapes: states [B, n, d] in and out; every layer sees a place and those before it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.nn import Attention, AttentionSpec, Causal

HEADS = 4
KERNEL = 3
"""Places that a convolution sees: its own and those just before."""


class SelfAttention(nn.Module):
    """regard's own, with its four projections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(AttentionSpec(num_heads=HEADS), width)

    def forward(self, states: Tensor) -> Tensor:
        mixed: Tensor = self.attention(states, Causal())
        return mixed


class LSTM(nn.Module):
    """torch's; ``openness`` is added to the biases of the forget gates, which start near 0."""

    def __init__(self, width: int, openness: float = 0.0) -> None:
        super().__init__()
        self.cells = nn.LSTM(width, width, batch_first=True)
        with torch.no_grad():
            self.cells.bias_ih_l0[width : 2 * width] += openness

    def forward(self, states: Tensor) -> Tensor:
        made: Tensor = self.cells(states)[0]
        return made


class Convolutions(nn.Module):
    """Convolutions of `KERNEL` places, each `KERNEL` times as far apart as those below; ReLU."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, dilation=KERNEL**index) for index in range(layers)
        )

    def forward(self, states: Tensor) -> Tensor:
        columns = states.mT  # [B, d, n]
        for index, layer in enumerate(self.layers):
            columns = columns if index == 0 else columns.relu()
            columns = layer(F.pad(columns, ((KERNEL - 1) * KERNEL**index, 0)))
        return columns.mT


def enough(places: int) -> int:
    """Layers of `Convolutions` that see so many places."""
    layers = 1
    while KERNEL**layers < places:
        layers += 1
    return layers


@dataclass(frozen=True)
class Kind:
    """A layer, and its row of the paper's table 1.

    Attributes:
        make: from n and d.
        complexity: of a layer.
        sequential: operations that wait for each other.
        path: the longest between two places.
        style: of its line in pictures.
    """

    make: Callable[[int, int], nn.Module]
    complexity: str
    sequential: str
    path: str
    style: str


KINDS = {
    "self-attention": Kind(lambda _, d: SelfAttention(d), "O(n²·d)", "O(1)", "O(1)", "C3o-"),
    "LSTM": Kind(lambda _, d: LSTM(d), "O(n·d²)", "O(n)", "O(n)", "C0s-"),
    "convolution": Kind(lambda _, d: Convolutions(d, 1), "O(k·n·d²)", "O(1)", "", "C2^--"),
    "convolutions, log₃ n": Kind(
        lambda n, d: Convolutions(d, enough(n)), "O(k·n·d²) each", "O(1) each", "O(logₖ n)", "C2v-"
    ),
}
