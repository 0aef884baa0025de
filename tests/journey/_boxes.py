"""Small pictures with bright squares and bars on a dark ground, in Pascal VOC's and COCO's form."""

from __future__ import annotations

import json
import random
from pathlib import Path

SIDE = 24
SIZES = {"train": 48, "val": 12}

RECIPE = """\
task = "object-detection"

[data]
train = {train}
valid = {valid}
test = {valid}

[model]
image_size = 24
patch_size = 4
detections = 4
d_model = 32
num_layers = 2
positions = {{ kind = "grid", every_layer = true }}
layer.attention.num_heads = 2
layer.feed_forward.d_ff = 64

[augmentation]
flip = 0.5
smallest = 0.7

[objective]
kind = "set_prediction"

[training]
max_steps = 60
batch_size = 12
threads = 1
precision = "float32"
optimizer.kind = "adamw"
schedule = {{ kind = "cosine", peak = 0.003, warmup_steps = 6 }}
checkpoint = {{ every_steps = 20, keep = 3 }}

[evaluation]
every_steps = 30
samples = 1
metric = "ap50"
"""


def drawn(draw: random.Random):
    """A picture with up to two objects; left, top, right, bottom and name of each."""
    from PIL import Image

    made, boxes = Image.new("RGB", (2 * SIDE, SIDE), (20, 20, 30)), []
    for half in range(2):
        if draw.random() < 0.75:
            name = draw.choice(["square", "bar"])
            width, height = (10, 10) if name == "square" else (6, 16)
            left = half * SIDE + draw.randrange(1, SIDE - width)
            top = draw.randrange(1, SIDE - height)
            box = (left, top, left + width, top + height)
            made.paste((240, 60, 40) if name == "square" else (60, 220, 80), box)
            boxes.append((*box, name))
    return made, boxes


def annotation(boxes, size=(2 * SIDE, SIDE)) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin>"
        f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d, name in boxes
    )
    width, height = size
    said = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{said}{objects}</annotation>"


def voc(root: Path) -> None:
    """``root/data`` in Pascal VOC's form, and ``root/boxes.toml``."""
    draw, data = random.Random(5), root / "data"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (data / folder).mkdir(parents=True)
    for part, count in SIZES.items():
        names = [f"{part}{number:03d}" for number in range(count)]
        for name in names:
            picture, boxes = drawn(draw)
            picture.save(data / "JPEGImages" / f"{name}.png")
            (data / "Annotations" / f"{name}.xml").write_text(annotation(boxes))
        (data / "ImageSets/Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
    (root / "boxes.toml").write_text(
        RECIPE.format(
            train='{ file = "data", part = "train" }', valid='{ file = "data", part = "val" }'
        )
    )


def coco(root: Path, part: str) -> Path:
    """The same part as a COCO file beside the folder."""
    from regard.data.readers.boxes import boxes_of, open_boxes

    rows = list(open_boxes({"file": str(root / "data"), "part": part}))
    names, images, annotations = ["square", "bar"], [], []
    for number, row in enumerate(rows):
        size, boxes = boxes_of(row.fields[1])
        file = Path(row.fields[0]).name
        images.append({"id": number, "file_name": file, "width": size[0], "height": size[1]})
        for left, top, right, bottom, name, crowd in boxes:
            edges = [left, top, right - left, bottom - top]
            found = {"image_id": number, "category_id": names.index(name) + 1, "bbox": edges}
            annotations.append({"id": len(annotations) + 1, "iscrowd": crowd, **found})
    categories = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    held = {"images": images, "annotations": annotations, "categories": categories}
    path = root / f"{part}.json"
    path.write_text(json.dumps(held))
    return path
