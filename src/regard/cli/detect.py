"""``regard detect``: pictures in, the boxes of what is to be seen out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.cli import options
from regard.cli.files import refuse_existing
from regard.errors import DataError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from regard.tasks.detector import Detection

LONGER = 640
"""Pixels of a drawing's longer side that a small picture is brought near, in whole multiples."""

COLORS = ("#e6194b", "#0082c8", "#3cb44b", "#f58231", "#911eb4", "#008080", "#aa6e28", "#808000")
"""Of classes, in the order in which the run has them."""


def detect(
    run: options.Run,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE", help="paths of pictures")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="draw the boxes: a new picture, or of several a new directory for them",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="boxes below this probability are left out", min=0.0, max=1.0)
    ] = 0.5,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="one JSON object a line: picture, size, and boxes with label, probability and "
            "edges in pixels",
        ),
    ] = False,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Find the objects in pictures; a line for each: label, probability, left, top, right, bottom.

    A picture that cannot be read is named, and the status is 2 at the end.

    regard detect runs/bccd smear.jpg -o found.png

    regard detect runs/bccd smears/*.jpg --json
    """
    from regard.cli.files import BadPictures, predictor

    refuse_existing(output)
    several = len(pictures) > 1
    if output is not None and not several:
        _check_suffix(output)
    drawings = [f"{path.stem}.png" for path in pictures]
    if output is not None and len(set(drawings)) < len(drawings):
        twice = max(drawings, key=drawings.count)
        raise InputError(
            "two of these pictures would be drawn into this file, so that one would be lost",
            where=str(output / twice),
        )
    detector, bad = predictor(run, "detect", precision, device, checkpoint), BadPictures()
    for path, drawing in zip(pictures, drawings, strict=True):
        try:
            found = detector.detect(path, threshold=threshold)
        except (DataError, InputError) as error:
            said = bad.line(path, error, as_json)
            if as_json:
                typer.echo(said)
            continue
        if as_json:
            boxes = [vars(box) for box in found.boxes]
            fields = {"picture": str(path), "size": found.size, "boxes": boxes}
            typer.echo(json.dumps(fields, ensure_ascii=False))
        else:
            for box in found.boxes:
                typer.echo(f"{path}: {box}" if several else str(box))
        if output is not None:
            place = output / drawing if several else output
            place.parent.mkdir(exist_ok=True)
            _save(drawn(path, found, detector.labels), place)
            typer.echo(f"written: {place}", err=True)
    bad.complain()


def drawn(path: Path, found: Detection, labels: Any) -> Image:
    """A picture with its boxes, a color for each class; a small one larger, to be read."""
    from PIL import Image, ImageDraw, ImageFont

    from regard.data.pictures import opened

    picture = opened(path.read_bytes(), 3)
    scale = max(1, LONGER // max(picture.size))
    wide, high = (scale * side for side in picture.size)
    picture = picture.resize((wide, high), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    width = max(1, round(min(wide, high) / 240))
    font = ImageFont.load_default(size=max(12, min(wide, high) / 30))
    for box in reversed(found.boxes):  # the likeliest on top
        color = COLORS[labels.index(box.label) % len(COLORS)]
        left, top, right, bottom = (scale * edge for edge in box.edges)
        pen.rectangle((left, top, right, bottom), outline=color, width=width)
        words = f"{box.label} {box.probability:.2f}"
        length, height = pen.textbbox((width, 0), words, font=font)[2:]
        if top < height:  # there is no room above the box: below it, or else inside
            top = bottom + height if bottom + height <= high else top + height
        left, top = max(0, min(left, wide - length)), top - height
        pen.rectangle((left, top, left + length, top + height), fill=color)
        pen.text((left + width, top), words, fill="white", font=font)
    return picture


def _check_suffix(output: Path) -> None:
    """Refuse a name that Pillow knows no form of pictures for, before a model is read."""
    from regard.data.pictures import pillow

    images = pillow()
    known = images.registered_extensions()  # which also makes SAVE complete
    if known.get(output.suffix.lower()) not in images.SAVE:
        raise InputError(
            f"{output.suffix or 'no suffix'} is no kind of picture that can be written",
            where=str(output),
            hint="such as found.png",
        )


def _save(picture: Image, place: Path) -> None:
    try:
        picture.save(place)
    except (OSError, ValueError) as error:
        place.unlink(missing_ok=True)
        raise InputError(
            f"the picture cannot be written: {error}", where=str(place), hint="such as found.png"
        ) from None
