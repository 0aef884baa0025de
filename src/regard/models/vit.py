"""ViT (Dosovitskiy et al., 2020), for clips too, and YOLOS (Fang et al., 2021).

Shapes: pixels [B, C, height, width] or [B, C, frames, height, width], patches N,
tokens T = class token + N + detection tokens, states [B, T, d_model], pooled [B, d_model].

A picture is cut into patches, each of which is a token; a stack of pre-norm layers that sees them
all is the original Transformer's encoder. A class comes from the state of a class token, or from
the mean of the patches'; YOLOS appends tokens that each answer with a box. On a picture of another
size the learned positions are interpolated. With ``num_frames`` a patch is a tubelet, some frames
deep, and positions have three axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import RecipeError
from regard.nn.body import Body
from regard.nn.heads import EncoderHeadSpec, HeadSize, Pooler, make_head
from regard.nn.masks import Full, Padding
from regard.nn.patches import LearnedTokens, PatchEmbedding, PatchSpec
from regard.nn.positions.scheme import GridSize, PositionSpec
from regard.nn.stack import LayerSpec, Stack, StackSpec
from regard.registry import Family
from regard.spec import Positive, Within, build, from_preset

DEFAULTS: dict[str, Any] = {
    "positions": "grid",
    "layer": {
        "norm_placement": "pre",
        "dropout": 0.0,
        "norm": {"eps": 1e-6},
        "feed_forward": {"activation": "gelu"},
    },
}

_SIZES = {
    "tiny": (12, 3, 192),
    "small": (12, 6, 384),
    "base": (12, 12, 768),
    "large": (24, 16, 1024),
}
"""Layers, heads and width: the paper's, and below them those of DeiT (Touvron et al., 2020)."""

DETECTION_STD = 1.0
"""Of detection tokens at the start, as DETR's queries: what the first layers add to all of them
alike drowns the 0.02 of YOLOS, which begins at pretrained weights."""

_PICTURES = {4: 32, 16: 224, 32: 224}
"""Width of a patch, and of the pictures that it is for."""


def _vit(layers: int, heads: int, width: int, patch: int) -> dict[str, Any]:
    layer = {"attention": {"num_heads": heads}, "feed_forward": {"d_ff": 4 * width}}
    sizes = {"d_model": width, "num_layers": layers, "patch_size": patch}
    return {**sizes, "image_size": _PICTURES[patch], "layer": layer}


PRESETS: dict[str, dict[str, Any]] = {
    f"{name}-{patch}": _vit(*sizes, patch) for name, sizes in _SIZES.items() for patch in _PICTURES
}


@dataclass(frozen=True)
class ViTConfig:
    """Settings of a ViT, in the recipe's words.

    Attributes:
        d_model: width of the states.
        num_layers: layers of the one stack.
        image_size: height and width of the pictures trained on, in pixels.
        image_width: their width, where it is another.
        patch_size: height and width of a patch.
        num_frames: of a clip; none: pictures.
        patch_frames: depth of a patch of a clip.
        channels: numbers of a pixel: 1 = gray, 3 = colors.
        pooling: what stands for the picture: a class token of its own, or the mean of the patches.
        pooler: whether that goes through another linear map and tanh.
        detections: tokens that each may answer with a box.
        positions: the scheme of the stack.
        embedding, layer: settings of the parts.
        head: what is answered, by ``kind``; ``none`` gives the states.
    """

    d_model: Positive = 768
    num_layers: Positive = 12
    image_size: Positive = 224
    image_width: Positive | None = None
    patch_size: Positive = 16
    num_frames: Positive | None = None
    patch_frames: Positive = 1
    channels: Positive = 3
    pooling: Literal["class", "mean"] = "class"
    pooler: bool = False
    detections: Annotated[int, Within(0)] = 0
    positions: PositionSpec = PositionSpec("grid")
    embedding: PatchSpec = PatchSpec()
    layer: LayerSpec = build(LayerSpec, DEFAULTS["layer"])
    head: EncoderHeadSpec = EncoderHeadSpec()

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    @classmethod
    def preset(cls, name: str, *, overrides: Mapping[str, Any] | None = None) -> Self:
        """A published size, with overrides such as ``{"head": "classification"}``."""
        return from_preset(cls, name, overrides or {}, DEFAULTS)

    @property
    def patch(self) -> tuple[int, ...]:
        """Length of a patch along each axis."""
        flat = (self.patch_size, self.patch_size)
        return flat if self.num_frames is None else (self.patch_frames, *flat)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis of what was trained on; what stands over is not seen.

        Raises:
            RecipeError: it is less than a patch.
        """
        sizes = {
            "num_frames": self.num_frames,
            "image_size": self.image_size,
            "image_width": self.image_width or self.image_size,
        }
        found = []
        for (key, size), own in zip(
            list(sizes.items())[-len(self.patch) :], self.patch, strict=True
        ):
            if size is None or size < own:
                patch = "patch_frames" if key == "num_frames" else "patch_size"
                raise RecipeError(
                    f"is {own}, and model.{key} = {size} is less", where=f"model.{patch}"
                )
            found.append(size // own)
        return tuple(found)

    @property
    def tokens(self) -> int:
        """Of what was trained on: class token, patches, detection tokens."""
        return math.prod(self.grid) + (self.pooling == "class") + self.detections


class ViT(nn.Module):
    """Pixels in; its head's answer, or the states, out."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.embedding = PatchEmbedding(config.channels, config.patch, width)
        self.class_token = LearnedTokens(1, width) if config.pooling == "class" else None
        self.detection_tokens = (
            LearnedTokens(config.detections, width, DETECTION_STD) if config.detections else None
        )
        grid = self._around(config.grid)
        self.encoder = Stack(
            StackSpec(config.num_layers, config.positions, config.layer),
            width,
            max_positions=grid.tokens,
            input_dropout=config.embedding.dropout,
            grid=grid,
        )
        size = HeadSize(width, 0, config.layer.norm, config.layer.dropout, config.detections)
        head = make_head(config.head, size)
        self.pooler = Pooler(width) if config.pooler and head.pools else None
        self.head = head

    def forward(self, pixels: Tensor, *, mask: Tensor | None = None) -> Any:
        """The head's answer.

        Args:
            pixels: [B, C, height, width], or [B, C, frames, height, width] of clips; of any size
                that the positions allow.
            mask: bool [B, N], True = a real patch; all by default.

        Returns:
            as the head says; states [B, T, d_model] without one.
        """
        states = self.features(pixels, mask=mask)
        return self.head(states, self.pool(states, mask) if self.head.pools else None)

    def features(self, pixels: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The states [B, T, d_model], before the head."""
        grid = self._around(self.embedding.grid(pixels))
        tokens = [self.embedding(pixels)]  # [B, N, d_model]
        if self.class_token is not None:
            tokens.insert(0, self.class_token(len(pixels)))
        if self.detection_tokens is not None:
            tokens.append(self.detection_tokens(len(pixels)))
        embedded = torch.cat(tokens, dim=1)  # [B, T, d_model]
        seen = (
            Full() if mask is None else Padding(F.pad(mask, (grid.before, grid.after), value=True))
        )
        positions = self.encoder.positions.places(grid, pixels.device)
        return cast(Tensor, self.encoder(embedded, mask=seen, positions=positions))

    def pool(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """A summary of each picture, [B, d_model], from its class token or its patches."""
        if self.class_token is not None:
            summary = states[:, 0]
        else:
            patches = states[:, : states.shape[1] - self.config.detections]  # [B, N, d_model]
            if mask is None:
                summary = patches.mean(1)
            else:
                real = mask[..., None].to(patches.dtype)
                summary = (patches * real).sum(1) / real.sum(1).clamp_min(1)
        return summary if self.pooler is None else cast(Tensor, self.pooler(summary))

    @property
    def body(self) -> Body:
        """The model without its head: called as the model is, it gives `features`."""
        return Body(self)

    def _around(self, shape: tuple[int, ...]) -> GridSize:
        """A grid of patches, with the tokens that stand outside of it."""
        return GridSize(shape, int(self.class_token is not None), self.config.detections)


def _tiny() -> ViTConfig:
    sizes = {"d_model": 16, "num_layers": 2, "image_size": 16, "patch_size": 2, "channels": 2}
    layer = {"layer.attention.num_heads": 4, "layer.feed_forward.d_ff": 24}
    return ViTConfig.preset("tiny-4", overrides={**sizes, **layer, "pooling": "mean"})


def _example(config: ViTConfig, batch: int, length: int) -> dict[str, Any]:
    """One row of patches, as many as make ``length`` tokens where a class token is one of them."""
    patches = max(length - (config.pooling == "class") - config.detections, 1)
    *depth, height, width = config.patch
    real = torch.ones(batch, patches, dtype=torch.bool)
    real[batch // 2 :, -2:] = False
    pixels = torch.randn(batch, config.channels, *depth, height, width * patches)
    return {"pixels": pixels, "mask": real}


FAMILY = Family(
    name="vit",
    config=ViTConfig,
    model=ViT,
    presets=PRESETS,
    defaults=DEFAULTS,
    shape="encoder",
    tiny=_tiny,
    example=_example,
)
