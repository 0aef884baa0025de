"""Small pictures that a tiny ViT tells apart in a moment: a bright bar that lies, or stands."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

SIZES = {"train": 96, "valid": 20, "test": 20}
SIDE = 12

RECIPE = """\
task = "image-classification"
{data}
[model]
image_size = 12
patch_size = 4
d_model = 16
num_layers = 2
layer.attention.num_heads = 2
layer.feed_forward.d_ff = 32

[augmentation]
pad = 1
flip = 0.5

[objective]
kind = "classes"

[training]
max_steps = 60
batch_size = 16
threads = 1
precision = "float32"
optimizer.kind = "adamw"
schedule = {{ kind = "cosine", peak = 0.01, warmup_steps = 6 }}
checkpoint = {{ every_steps = 20, keep = 3 }}

[evaluation]
every_steps = 30
samples = 1
metric = "top1"
"""


def picture(draw: random.Random, label: str):
    """12 × 12 of three colors, dark and noisy, with a bar of some bright color."""
    from PIL import Image

    made = Image.new("RGB", (SIDE, SIDE))
    for y in range(SIDE):
        for x in range(SIDE):
            made.putpixel((x, y), tuple(draw.randrange(60) for _ in range(3)))
    at, color = draw.randrange(2, SIDE - 3), tuple(draw.randrange(150, 256) for _ in range(3))
    box = (0, at, SIDE, at + 2) if label == "lies" else (at, 0, at + 2, SIDE)
    made.paste(color, box)
    return made


def labeled(count: int, seed: int):
    """Pictures with their labels, in turn."""
    draw = random.Random(seed)
    for n in range(count):
        label = ("lies", "stands")[n % 2]
        yield f"{label}/{n:03}.png", picture(draw, label)


def folders(directory: Path) -> None:
    """A folder of class folders for each split, and a recipe, bars.toml."""
    for seed, (split, count) in enumerate(SIZES.items()):
        for name, made in labeled(count, seed):
            path = directory / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save(path)
    (directory / "bars.toml").write_text(recipe({split: f'file = "{split}"' for split in SIZES}))


def recipe(splits: dict[str, str]) -> str:
    lines = (f"data.{split} = {{ {held} }}\n" for split, held in splits.items())
    return RECIPE.format(data="".join(lines))


def archives(directory: Path) -> None:
    """The same in train.zip, valid.tar and test.tar.gz."""
    with zipfile.ZipFile(directory / "train.zip", "w") as packed:
        for path in sorted((directory / "train").rglob("*.png")):
            packed.write(path, path.relative_to(directory).as_posix())
    for name, mode in (("valid.tar", "w"), ("test.tar.gz", "w:gz")):
        with tarfile.open(directory / name, mode) as packed:
            packed.add(directory / name.split(".")[0], arcname=".")


def packed(made, kind: str = "PNG", **settings) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    made.save(file, kind, **settings)
    return file.getvalue()
