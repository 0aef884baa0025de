"""A picture as a user gives it, or where a source has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.data.pictures import LEAVE_OUT, opened
from regard.data.readers.pictures import PictureSource
from regard.errors import DataError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Any
"""A path, a file's bytes, a Pillow picture, an array [H, W] or [H, W, C] of uint8, or `Stored`."""

HINT = f"{LEAVE_OUT}; to evaluate, --data broken=skip"


@dataclass(frozen=True)
class Stored:
    """A picture where a source has it."""

    source: PictureSource
    name: str

    def __str__(self) -> str:
        return self.source.origin(self.name)


def decoded(picture: Picture, channels: int) -> Image:
    """A picture whole, grey (1 channel) or of three colors.

    Raises:
        DataError: it is broken.
        InputError: it is none, or no file is there.
    """
    where = str(picture) if isinstance(picture, str | Path | Stored) else None
    try:
        if isinstance(picture, str | Path):
            held: Any = _file(Path(picture))
        else:
            stored = isinstance(picture, Stored)
            held = picture.source.read(picture.name) if stored else picture
        return opened(held, channels)
    except DataError as error:
        hint = error.hint or (HINT if isinstance(picture, Stored) else None)
        raise DataError(error.what, where=error.where or where, hint=hint) from None


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"this picture cannot be read: {error.strerror}",
            where=str(path),
            hint="give the path of a picture, such as photo.jpg",
        ) from None
