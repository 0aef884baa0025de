"""Pictures and clips as tokens (Dosovitskiy et al., 2020, section 3.1; Arnab et al., 2021).

Shapes: pixels [B, C, height, width] or [B, C, frames, height, width]; N = patches, in rows, those
of the first frames first; states [B, N, d_model]; K = C * numbers of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import InputError
from regard.nn.linear import Linear
from regard.spec import Fraction

STD = 0.02
"""Of learned tokens at the start (the code of DeiT and YOLOS)."""


@dataclass(frozen=True)
class PatchSpec:
    """Settings of patches as tokens.

    Attributes:
        dropout: of the sum of patches and positions.
    """

    dropout: Fraction = 0.0


class PatchEmbedding(nn.Module):
    """A linear map of each patch: a convolution whose stride is its width, as one product.

    The weight is N(0, 1/K) at the start, the bias zero (the paper's code).

    Args:
        channels: C.
        patch: length of a patch along each axis: frames, where there are such, rows and columns.
        d_model: width of the states.
    """

    def __init__(self, channels: int, patch: Sequence[int], d_model: int) -> None:
        super().__init__()
        self.channels, self.patch = channels, tuple(patch)
        self.numbers = channels * math.prod(patch)  # K
        self.linear = Linear(self.numbers, d_model)
        nn.init.normal_(self.linear.weight, std=self.numbers**-0.5)

    def grid(self, pixels: Tensor) -> tuple[int, ...]:
        """How many patches there are along each axis.

        Raises:
            InputError: for another number of axes or channels, or less than a patch.
        """
        if pixels.ndim != 2 + len(self.patch) or pixels.shape[1] != self.channels:
            axes = ", ".join(["frames", "height", "width"][-len(self.patch) :])
            raise InputError(f"pixels {list(pixels.shape)} are not [B, {self.channels}, {axes}]")
        found = tuple(
            length // own for length, own in zip(pixels.shape[2:], self.patch, strict=True)
        )
        if 0 in found:
            size = " × ".join(map(str, self.patch))
            raise InputError(f"pixels {list(pixels.shape)} are less than a patch of {size}")
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, C, …] → [B, N, d_model]; what no patch covers, right and below, is not seen."""
        whole = pixels
        shape = list(pixels.shape[:2])
        for axis, (count, length) in enumerate(zip(self.grid(pixels), self.patch, strict=True), 2):
            whole = whole.narrow(axis, 0, count * length)
            shape += [count, length]
        counts = range(2, len(shape), 2)
        order = [0, *counts, 1, *(axis + 1 for axis in counts)]
        patches = whole.reshape(shape).permute(order)  # [B, counts, C, lengths]
        patches = patches.reshape(len(pixels), -1, self.numbers)  # [B, N, K]
        return cast(Tensor, self.linear(patches.to(self.linear.weight.dtype)))

    @torch.no_grad()
    def interpolated(self, theirs: PatchEmbedding) -> dict[str, Tensor]:
        """This weight out of that for patches of another size, by the parameter's name.

        A patch that is drawn larger, by linear interpolation, makes the same token as before; for
        a smaller one the weight is the nearest to that (Beyer et al., 2023, FlexiViT, section 3.4).
        Nothing where the two have other channels, axes or widths.
        """
        weight = theirs.linear.weight
        there, here = (theirs.channels, len(theirs.patch)), (self.channels, len(self.patch))
        if there != here or len(weight) != len(self.linear.weight):
            return {}
        made = weight.detach().view(len(weight), self.channels, *theirs.patch)
        for axis, (old, new) in enumerate(zip(theirs.patch, self.patch, strict=True), 2):
            each = torch.eye(old, dtype=torch.float64)[None, None]
            drawn = F.interpolate(each, (old, new), mode="bilinear", antialias=True)[0, 0]
            back = torch.linalg.pinv(drawn).to(made)  # [new, old]
            made = (made.movedim(axis, -1) @ back.T).movedim(-1, axis)
        return {"linear.weight": made.flatten(1)}


class LearnedTokens(nn.Module):
    """Tokens that every example has, such as a class token.

    N(0, ``std``²) at the start: of several, no two are alike.

    Attributes:
        looks_up: optimizers treat such weights apart.
    """

    looks_up = True

    def __init__(self, count: int, d_model: int, std: float = STD) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, d_model))
        nn.init.normal_(self.weight, std=std)

    def forward(self, batch: int) -> Tensor:
        """[B, count, d_model]."""
        return self.weight.expand(batch, -1, -1)
