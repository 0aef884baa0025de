"""``regard new image-classification``."""

from __future__ import annotations

import itertools
from collections import Counter
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
    field,
    horizon,
    place,
    rounded,
    row_for,
    splits_of,
    table,
    write,
)
from regard.cli.new.encoder import OPTIMIZER
from regard.errors import DataError, InputError

MEASURED = 200
"""Pictures whose size and colors are looked at; all are counted."""

IDX_PICTURES, IDX_LABELS = "-images-idx3", "-labels-idx1"
"""MNIST's names: the labels of such a file of pictures stand beside it."""

BATCH = 64

# Up to so many pixels of a picture's shorter side: size that is read, patch.
_PATCHES = ((40, (None, 4)), (96, (64, 8)), (160, (128, 16)), (None, (224, 16)))

# Up to so many pictures: width, layers, heads, hidden width, peak rate, epochs aimed at, steps at
# most. The fewer there are, the more often each is seen. The third row is the recipe cifar10.
_SIZES = (
    (1_000, (128, 4, 4, 256, 1e-3, 200, 5_000)),
    (5_000, (128, 4, 4, 256, 1e-3, 100, 5_000)),
    (100_000, (128, 6, 4, 256, 6e-4, 50, 20_000)),
    (None, (384, 12, 6, 1_536, 5e-4, 60, 300_000)),
)


def image_classification(
    train: Train,
    valid: Valid,
    output: Output,
    test: Test = None,
    picture: Annotated[
        str, typer.Option(help="Of a table: the field of the pictures' paths.")
    ] = "picture",
    label: Annotated[str, typer.Option(help="Of a table: the field of what is right.")] = "label",
) -> None:
    """Write a recipe that trains a model to tell your pictures apart.

    Each of them is a folder that holds a folder of pictures for each class, the same as a .zip or
    .tar archive, a table (.csv, .tsv, .jsonl, .parquet) of paths and labels, or an IDX file such as
    train-images-idx3-ubyte.gz with its labels beside it. Model and number of steps follow from how
    many pictures there are and how large; each has a comment, and everything can be changed.

    Then `regard check recipe.toml`, and `regard train recipe.toml --run runs/first`
    """
    refuse_existing(output)
    columns = {"picture": field(picture), "label": field(label)}
    for path in filter(None, (train, valid, test)):
        _check_columns(path, columns)
    splits = {name: data_of(path, columns) for name, path in splits_of(train, valid, test).items()}
    counted = {name: measure(data) for name, data in splits.items()}
    data = [
        f"# {counted[name].pictures:,} pictures\n{name} = {_line(split, output)}"
        for name, split in splits.items()
    ]
    write(output, _RECIPE, choose(counted["train"]), data)


def data_of(path: Path, columns: Mapping[str, str | int]) -> dict[str, Any]:
    """A split in the recipe's words."""
    from regard.data.readers.tables import is_table

    if IDX_PICTURES in path.name:
        labels = path.with_name(path.name.replace(IDX_PICTURES, IDX_LABELS))
        return {"source": str(path), "target": str(labels)}
    usual = all(name == given for name, given in columns.items())
    fields = {"fields": dict(columns)} if is_table(path) and not usual else {}
    return {"file": str(path), **fields}


def _check_columns(path: Path, columns: Mapping[str, str | int]) -> None:
    """Refuse a table that lacks a column, in the words of this command."""
    from regard.data.readers.tables import columns_of, is_table

    if not is_table(path) or not path.is_file():
        return
    known = columns_of(path)
    if lacking := [
        name for name in columns.values() if isinstance(name, str) and name not in known
    ]:
        raise InputError(
            f"there is no field {lacking[0]!r}, but {', '.join(known)}",
            where=str(path),
            hint="say which hold the pictures' paths and the labels: --picture FIELD --label FIELD",
        )


def _line(split: Mapping[str, Any], output: Path) -> str:
    """The same as TOML."""
    held = (
        f"{key} = {table(value) if key == 'fields' else place(Path(value), output)}"
        for key, value in split.items()
    )
    return "{ " + ", ".join(held) + " }"


@dataclass(frozen=True)
class Measured:
    """How much there is to learn from.

    Attributes:
        pictures: in all.
        labels: different ones.
        side: the shorter side of a usual picture, in pixels.
        grey: whether there is no color.
        alike: whether all that were looked at have one size, and are square.
    """

    pictures: int
    labels: int
    side: int
    grey: bool
    alike: bool


def measure(data: Mapping[str, Any]) -> Measured:
    """Count pictures, and look at some from everywhere.

    Raises:
        DataError: for a file that is missing, or without pictures; for a picture that is broken.
    """
    from regard.data.pictures import decode
    from regard.data.readers.pictures import open_pictures

    source = open_pictures(data)
    names = list(source.named())
    if not names:
        raise DataError("there is no picture in it", where=str(source.path))
    labels = Counter(label for _, label in names)
    sizes, grey = list[tuple[int, int]](), True
    step = max(1, len(names) // MEASURED)
    for name, _ in itertools.islice(names, 0, None, step):
        try:
            found = decode(source.read(name), 3)
        except DataError as error:
            where = error.where or source.origin(name)
            raise DataError(error.what, where=where, hint=error.hint) from None
        sizes.append(found.size)
        grey = grey and all(low == high for low, high in _spreads(found))
    sides = sorted(min(size) for size in sizes)
    alike = len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1]
    return Measured(len(names), len(labels), sides[len(sides) // 2], grey, alike)


def _spreads(picture: Any) -> Any:
    """How far red and green, and green and blue, lie apart: 0 and 0 of what is grey."""
    from PIL import ImageChops

    red, green, blue = picture.split()
    return (
        ImageChops.difference(red, green).getextrema(),
        ImageChops.difference(green, blue).getextrema(),
    )


def choose(train: Measured) -> Mapping[str, Any]:
    """Model and horizon for so many pictures of such a size."""
    size, patch = row_for(_PATCHES, train.side)
    if size is None:  # a small picture as it is, in whole patches
        size = max(patch, -(-train.side // patch) * patch)
    width, layers, heads, hidden, peak, epochs, most = row_for(_SIZES, train.pictures)
    batch = max(8, min(BATCH, train.pictures // 8))
    steps = horizon(max(1, train.pictures / batch), epochs, most)
    small = size <= 64
    return {
        **steps,
        "pictures": f"{train.pictures:,}",
        "labels": f"{train.labels:,}",
        "image_size": size,
        "patch_size": patch,
        "patches": (size // patch) ** 2,
        "channels": 1 if train.grey else 3,
        "color": "grey" if train.grey else "red, green, blue",
        "d_model": width,
        "num_layers": layers,
        "num_heads": heads,
        "d_ff": hidden,
        "crop": _PAD.substitute(pad=max(1, size // 8)) if small else _SMALLEST,
        "flip": 0.0 if train.grey else 0.5,
        "fit": "" if train.alike else _FIT,
        "peak": peak,
        "batch_size": batch,
        "warmup_steps": min(1_000, rounded(steps["max_steps"] / 20)),
        "epochs": f"{steps['epochs']:.0f}",
    }


_PAD = Template(
    "pad = $pad                      # a random window with so many black pixels around"
)
_SMALLEST = "smallest = 0.3               # a random part of at least this share of the area"
_FIT = 'fit = "crop"                 # the middle of a picture that is not square; or "stretch"\n'

_RECIPE = Template(
    """\
# Image classification, written by `regard new` for $pictures pictures, $labels labels.
#
#   regard check $name          try everything before the first step
#   regard train $name --run runs/$stem
#   regard classify runs/$stem picture.jpg
#
# All keys with their meanings: regard recipe schema --markdown

task = "image-classification"

[data]                       # paths are relative to this file

[model]
image_size = $image_size     # pixels of a side; pictures are brought to it
patch_size = $patch_size     # pixels of a patch's side: $patches patches
channels = $channels         # $color
d_model = $d_model
num_layers = $num_layers
pooling = "mean"             # or "class": a token of its own stands for the picture
layer.attention.num_heads = $num_heads
layer.feed_forward.d_ff = $d_ff

[augmentation]               # of training pictures alone, another each time
$crop
flip = $flip                 # 0 where left and right differ, as in text
randaugment.layers = 1       # random operations; 0 = none
${fit}
[objective]
kind = "classes"
label_smoothing = 0.1

[training]
max_steps = $max_steps       # about $epochs times through the data
batch_size = $batch_size     # pictures of a micro-batch; less, if memory runs out
workers = 2                  # threads that make batches ahead
clip_norm = 1.0
ema = 0.999                  # the mean of the last weights is used; 0 = the last weights
seed = 1

"""
    + OPTIMIZER.replace('"linear"', '"cosine"')
    + """\
peak = $peak                 # highest learning rate; with start_from a tenth of it
"""
    + RHYTHM
    + """\
metric = "error"             # share of wrong answers, or loss, top1, top5
samples = 3
"""
)
