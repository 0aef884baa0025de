"""``regard new object-detection``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Any

import typer

from regard.cli.files import refuse_existing
from regard.cli.new.common import (
    RHYTHM,
    Output,
    Test,
    Train,
    Valid,
    horizon,
    place,
    quoted,
    rounded,
    row_for,
    splits_of,
    write,
)
from regard.cli.new.encoder import OPTIMIZER
from regard.errors import DataError, InputError

PATCH = 16
BATCH = 8

LONGEST = 320
"""Pixels of a side that the model reads at most: its tokens grow with their square."""

# Up to so many pictures: width, layers, heads, peak rate, epochs aimed at, steps at most.
_SIZES = (
    (5_000, (192, 6, 3, 5e-4, 300, 30_000)),
    (None, (384, 12, 6, 1e-4, 150, 500_000)),
)


def object_detection(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Of Pascal VOC: the lists in ImageSets/Main that name the pictures of each, such "
            "as train,val or train,val,test."
        ),
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(help="Of COCO: the folder of the pictures, seen from the .json.")
    ] = None,
) -> None:
    """Write a recipe that trains a model to find objects in your pictures.

    Each of them is a folder, .zip or .tar in Pascal VOC's form (Annotations/*.xml beside
    JPEGImages), or a COCO .json. Model and number of steps follow from how many pictures there are,
    how large, and how many boxes are in one; each has a comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    files = splits_of(train, valid, test)
    lists = [None] * len(files) if parts is None else parts.split(",")
    if len(lists) != len(files):
        raise InputError(
            f"{len(files)} lists are wanted, one for each of {', '.join(files)}", where="--parts"
        )
    splits = {
        name: data_of(path, part, pictures)
        for (name, path), part in zip(files.items(), lists, strict=True)
    }
    counted = {name: measure(data) for name, data in splits.items()}
    data = [
        f"# {counted[name].pictures:,} pictures, {counted[name].boxes:,} boxes\n"
        f"{name} = {_line(split, output)}"
        for name, split in splits.items()
    ]
    write(output, _RECIPE, choose(counted["train"]), data)


def data_of(path: Path, part: str | None, pictures: str | None) -> dict[str, str]:
    """A split in the recipe's words."""
    given = {"file": str(path), "part": part, "pictures": pictures}
    return {key: value for key, value in given.items() if value is not None}


def _line(split: Mapping[str, str], output: Path) -> str:
    """The same as TOML."""
    held = (
        f"{key} = {place(Path(value), output) if key == 'file' else quoted(value)}"
        for key, value in split.items()
    )
    return "{ " + ", ".join(held) + " }"


@dataclass(frozen=True)
class Measured:
    """How much there is to learn from.

    Attributes:
        pictures, boxes: in all.
        labels: different ones.
        most: boxes of a picture at most.
        size: width and height of a usual picture.
    """

    pictures: int
    boxes: int
    labels: int
    most: int
    size: tuple[float, float]


def measure(data: Mapping[str, Any]) -> Measured:
    """Count pictures and boxes.

    Raises:
        DataError: for a file that is missing, or without pictures.
    """
    from regard.data.readers.boxes import boxes_of, open_boxes

    source = open_boxes(data)
    read = [boxes_of(line) for _, line in source.named()]
    if not read:
        raise DataError("there is no picture in it", where=str(source.path))
    counts = [len(boxes) for _, boxes in read]
    labels = {box[4] for _, boxes in read for box in boxes}
    sizes = sorted(size for size, _ in read)
    middle = sizes[len(sizes) // 2]
    return Measured(len(read), sum(counts), len(labels), max(counts), middle)


def choose(train: Measured) -> Mapping[str, Any]:
    """Model and horizon for so many pictures of such a size."""
    scale = min(1.0, LONGEST / max(train.size))
    width, height = (max(1, round(side * scale / PATCH)) * PATCH for side in train.size)
    d_model, layers, heads, peak, epochs, most = row_for(_SIZES, train.pictures)
    batch = max(1, min(BATCH, train.pictures // 8))
    steps = horizon(max(1, train.pictures / batch), epochs, most)
    return {
        **steps,
        "pictures": f"{train.pictures:,}",
        "boxes": f"{train.boxes:,}",
        "labels": f"{train.labels:,}",
        "height": height,
        "width": width,
        "patch": PATCH,
        "patches": width * height // PATCH**2,
        "detections": max(10, rounded(1.5 * train.most)),
        "most": train.most,
        "d_model": d_model,
        "num_layers": layers,
        "num_heads": heads,
        "d_ff": 4 * d_model,
        "peak": peak,
        "batch_size": batch,
        "warmup_steps": min(1_000, rounded(steps["max_steps"] / 20)),
        "epochs": f"{steps['epochs']:.0f}",
    }


_RECIPE = Template(
    """\
# Object detection, written by `regard new` for $pictures pictures, $boxes boxes, $labels labels.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard detect runs/$stem picture.jpg -o found.png
#
# All keys with their meanings: regard recipe schema --markdown

task = "object-detection"

[data]                       # paths are relative to this file

[model]
image_size = $height         # pictures are brought to this height
image_width = $width         # and this width
patch_size = $patch          # pixels of a patch's side: $patches patches
detections = $detections     # boxes that can be answered; a picture has $most at most
d_model = $d_model
num_layers = $num_layers
positions = { kind = "grid", every_layer = true }
layer.attention.num_heads = $num_heads
layer.feed_forward.d_ff = $d_ff
layer.dropout = 0.1

[augmentation]               # of training pictures alone, another each time
smallest = 0.5               # a random part of at least this share of the area
flip = 0.5                   # 0 where left and right differ, as in text

[objective]
kind = "set_prediction"

[training]
max_steps = $max_steps       # about $epochs times through the data
batch_size = $batch_size     # pictures of a micro-batch; less, if memory runs out
workers = 2                  # threads that make batches ahead
clip_norm = 0.1
seed = 1

"""
    + OPTIMIZER.replace('"linear"', '"cosine"')
    + """\
peak = $peak                 # highest learning rate; with start_from a third of it
"""
    + RHYTHM
    + """\
metric = "ap50"              # or ap, loss
samples = 3
"""
)
