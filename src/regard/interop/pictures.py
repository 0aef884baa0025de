"""What makes numbers of pixels, as Hugging Face's ``preprocessor_config.json`` says it.

Ours stands in the recipe: ``augmentation.mean``, ``.std`` and ``.fit``, and the model's size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.errors import InputError
from regard.interop.files import read_json
from regard.interop.format import Format
from regard.models.vit import ViTConfig

PROCESSOR = "preprocessor_config.json"
BILINEAR = 2
"""Their number of the way in which we bring a picture to another size."""

_PROCESSORS = {"vit": "ViTImageProcessor", "yolos": "YolosImageProcessor"}


def read_processor(directory: Path, form: Format, config: ViTConfig) -> tuple[dict[str, Any], str]:
    """The recipe's settings of pixels; a line that says where they come from, and what of theirs is
    not taken over.

    Raises:
        InputError: pixels are not from 0 to 1, or not normalized channel by channel.
    """
    assert form.pixels is not None
    path = directory / PROCESSOR
    usual_mean, usual_std = (list(one) for one in form.pixels)
    if not path.exists():
        mean, std = ([sum(one) / len(one)] * config.channels for one in (usual_mean, usual_std))
        if config.channels == len(usual_mean):
            mean, std = usual_mean, usual_std
        usual = f"the mean and deviation usual for {form.model_type}"
        return {"mean": mean, "std": std}, f"there is no {PROCESSOR}: pixels have {usual}"
    given = read_json(path)
    factor = given.get("rescale_factor", 1 / 255)
    if not given.get("do_rescale", True) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise InputError(
            "pixels from 0 to 1 are all that is supported", where=f"{path}: do_rescale"
        )
    mean, std = [0.0] * config.channels, [1.0] * config.channels
    if given.get("do_normalize", True):
        mean, std = given.get("image_mean", usual_mean), given.get("image_std", usual_std)
    if not _numbers(mean, config.channels) or not _numbers(std, config.channels) or 0 in std:
        raise InputError(
            f"image_mean and image_std are no lists of {config.channels} numbers", where=str(path)
        )
    fit, left = _fit(given, form, config)
    note = f"pixels: {PROCESSOR}" + (f"; not taken over: {', '.join(left)}" if left else "")
    return {"mean": mean, "std": std, "fit": fit}, note


def _fit(given: Mapping[str, Any], form: Format, config: ViTConfig) -> tuple[str, list[str]]:
    """How a picture becomes one of the model's size; their settings that do it in another way."""
    own = _size(config)
    square = len(set(own.values())) == 1
    side = config.image_size if square else None
    stretched = [own, side if form.model_type == "vit" else None]  # YOLOS': the shorter edge
    crops = given.get("do_center_crop", False)
    fit = "crop" if crops and given.get("size") not in stretched else "stretch"
    values: dict[str, Sequence[Any]] = {
        "do_resize": [True],
        "resample": [BILINEAR],
        "size": stretched if fit == "stretch" else [{"shortest_edge": side}],
        **({"crop_size": [own, side]} if crops else {}),
    }
    left = [
        f"{key} = {given[key]!r}"
        for key, known in values.items()
        if given.get(key) is not None and given[key] not in known
    ]
    return fit, left


def _size(config: ViTConfig) -> dict[str, int]:
    return {"height": config.image_size, "width": config.image_width or config.image_size}


def _numbers(values: Any, count: int) -> bool:
    right = isinstance(values, list) and len(values) == count
    return right and all(isinstance(value, int | float) for value in values)


def write_processor(
    form: Format,
    config: ViTConfig,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    fit: str,
    to: Path,
) -> str:
    """Write their file; says what was done.

    Args:
        form: of the files.
        config: of the model.
        mean, std: of each channel.
        fit: how a picture of another shape becomes the model's.
        to: the directory.

    Raises:
        InputError: they have no word for how it does.
    """
    if mean is None or std is None:
        return "the run knows no mean and deviation of pixels"
    size, cropped = _size(config), fit == "crop"
    if cropped and size["height"] != size["width"]:
        raise InputError(
            f"is 'crop', and the model's pictures are {size['height']} × {size['width']}: "
            f"{PROCESSOR} can say that of square ones alone",
            where="augmentation.fit",
            hint='train with augmentation.fit = "stretch", or with square pictures',
        )
    settings = {
        "image_processor_type": _PROCESSORS[form.model_type],
        "do_resize": True,
        "size": {"shortest_edge": config.image_size} if cropped else size,
        "resample": BILINEAR,
        "do_center_crop": cropped,
        **({"crop_size": size} if cropped else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
    text = json.dumps(settings, indent=2) + "\n"
    (to / PROCESSOR).write_text(text, encoding="utf-8")
    return f"pixels: {PROCESSOR}"
