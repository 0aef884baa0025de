"""A ViT that sees time: which way does a digit move? One frame alone does not say it."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from regard.models import ViT, ViTConfig

FRAMES, SIZE, WAYS = 8, 32, torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
CLIP = {"num_frames": FRAMES, "patch_frames": 2, "image_size": SIZE, "patch_size": 8, "channels": 1}
MODEL = {"d_model": 64, "num_layers": 2, "layer.attention.num_heads": 4}
HEAD = {"head": {"kind": "classification", "num_classes": len(WAYS)}}
PICTURES = [Image.new("L", (SIZE, SIZE)) for _ in range(10)]
for number, picture in enumerate(PICTURES):
    ImageDraw.Draw(picture).text((12, 10), str(number), fill=255)
DIGITS = torch.from_numpy(np.stack(PICTURES)) / 255.0  # [10, SIZE, SIZE]


def clips(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, 1, FRAMES, SIZE, SIZE], and which way [B]."""
    ways, starts = torch.randint(len(WAYS), (count,)), torch.randint(SIZE, (count, 1, 2))
    paths = starts + 2 * torch.arange(FRAMES)[:, None] * WAYS[ways][:, None]  # [B, FRAMES, 2]
    digits = DIGITS[torch.randint(10, (count, 1))].expand(-1, FRAMES, -1, -1).flatten(0, 1)
    places = paths.flatten(0, 1).tolist()
    moved = [one.roll(at, (0, 1)) for one, at in zip(digits, places, strict=True)]
    return torch.stack(moved).view(count, 1, FRAMES, SIZE, SIZE), ways


torch.manual_seed(0)
model = ViT(ViTConfig.preset("tiny-4", overrides={**CLIP, **MODEL, **HEAD}))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(100):
    pixels, ways = clips(48)
    optimizer.zero_grad()
    F.cross_entropy(model(pixels), ways).backward()
    optimizer.step()
pixels, ways = clips(500)
right, turned = model(pixels).argmax(-1) == ways, model(pixels.flip(2)).argmax(-1) == (ways ^ 1)
print(f"right ways {right.float().mean():.0%}; backwards {turned.float().mean():.0%} turn around")
