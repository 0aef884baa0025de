"""Pictures: what a file of one becomes, in prepared data and in batches.

Shapes: B pictures, C channels, H × W pixels.

=====================  ============================================================================
what is met            what becomes of it
=====================  ============================================================================
broken or cut off      ``DataError`` that names the file, when data are prepared; with
                       ``data.broken = "skip"`` it is left out and counted
grey, palette, CMYK    brought to the model's ``channels``: 3 (red, green, blue) or 1 (grey)
16 bits a channel      the upper 8
floating-point         ``DataError``: what is white is not known
transparent            laid on white
turned by EXIF         turned as it says
several frames         the first
another size           stretched to the model's (``augmentation.fit = "crop"``: the middle, its
                       shorter side brought to the model's size), also 1 × 1
huge                   above 89 million pixels (Pillow's limit): as a broken one, before it is
                       decoded
=====================  ============================================================================

Small pictures are kept as pixels of the model's size; larger ones as they come, decoded batch by
batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regard.data.codecs import CodecError
from regard.data.prepared import PLACE, Ids, Ints
from regard.data.readers.pictures import PictureSource, Pixels
from regard.errors import DataError, InputError, missing_extra

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL = 1 << 14
"""Bytes that a picture has at most which is kept as pixels: 3 × 73 × 73."""

BROKEN = "broken"
LEAVE_OUT = 'mend or remove it; or leave such out: data.broken = "skip"'
Fit = Literal["stretch", "crop"]
Box = tuple[float, float, float, float]

_ORIENTATION = 0x0112
"""EXIF's tag."""

_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What Pillow says of a file that is no picture, or not a whole one."""


@dataclass(frozen=True)
class Form:
    """What pictures are brought to.

    Attributes:
        height, width: in pixels.
        channels: 3 (red, green, blue) or 1 (grey).
        fit: how another shape becomes this one: ``stretch``, or ``crop`` (what stands over is cut).
    """

    height: int
    width: int
    channels: int
    fit: Fit = "stretch"

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W]."""
        return self.channels, self.height, self.width

    @property
    def small(self) -> bool:
        """Whether such pictures are kept as pixels."""
        return self.channels * self.height * self.width <= SMALL

    def pixels(self, picture: Image, box: Box | None = None) -> Pixels:
        """A picture's (or a part's) pixels [C, H, W]; see `flat` for what it may be."""
        images = pillow()
        if box is None and self.fit == "crop":
            box = self._middle(*picture.size)
        if picture.size != (self.width, self.height) or box is not None:
            how = images.Resampling.BILINEAR
            if box is not None:  # which may reach over the border by a rounding
                wide, high = picture.size
                box = max(box[0], 0.0), max(box[1], 0.0), min(box[2], wide), min(box[3], high)
            picture = picture.resize((self.width, self.height), how, box)
        held = np.asarray(picture)
        return np.ascontiguousarray(held[None] if held.ndim == 2 else held.transpose(2, 0, 1))

    def _middle(self, width: int, height: int) -> Box:
        scale = min(width / self.width, height / self.height)
        wide, high = scale * self.width, scale * self.height
        left, top = (width - wide) / 2, (height - high) / 2
        return left, top, left + wide, top + high


def decode(held: bytes | Pixels, channels: int, *, known: bool = False) -> Image:
    """A picture of 8 bits a channel, grey or of three colors.

    Args:
        held: the file's bytes, or pixels [H, W] or [H, W, C].
        channels: 3 or 1.
        known: it was decoded before, so that nothing is wrong with it; threads may do this.

    Raises:
        DataError: broken, cut off, or huge.
    """
    if known:
        return _decode(held, channels)
    with _damage():
        return _decode(held, channels)


def turned(file: bytes) -> tuple[tuple[int, int], int]:
    """Width and height that `decode` gives a file; and how EXIF turns it where sides change places.

    Returns:
        The size, and 5 (left and right are what was top and bottom), 6 (turned right by 90°), 7
        (5, turned by 180°), 8 (turned left by 90°), or 1.

    Raises:
        DataError: it is no picture; one that is cut off may not be noticed.
    """
    with _damage():
        picture = pillow().open(io.BytesIO(file))
        turn = picture.getexif().get(_ORIENTATION, 1)
    if turn not in (5, 6, 7, 8):
        return picture.size, 1
    return decode(file, 1).size, turn  # some formats tell the size as it is turned


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    images = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", images.DecompressionBombWarning)
        try:
            yield
        except (images.DecompressionBombWarning, images.DecompressionBombError):
            limit = images.MAX_IMAGE_PIXELS or 0
            raise DataError(f"the picture has more than {limit:,} pixels") from None
        except _DAMAGE as error:
            unknown = isinstance(error, images.UnidentifiedImageError)
            what = "it is none that Pillow knows" if unknown else error
            raise DataError(f"the picture cannot be read: {what}") from None


def _decode(held: bytes | Pixels, channels: int) -> Image:
    from PIL import ImageOps

    images = pillow()
    if isinstance(held, bytes):
        picture: Image = images.open(io.BytesIO(held))
        picture.load()
        picture = ImageOps.exif_transpose(picture)
    else:
        picture = images.fromarray(held)
    return flat(picture, "L" if channels == 1 else "RGB")


def flat(picture: Image, mode: str) -> Image:
    """Any picture in the mode ``L`` (grey) or ``RGB``, what is transparent laid on white.

    Raises:
        ValueError: its numbers are floating-point.
    """
    images = pillow()

    if picture.mode == "F":
        raise ValueError("its numbers are floating-point: what is white is not known")
    if picture.mode.startswith("I"):  # 16 bits
        upper = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255)
        picture = images.fromarray(upper.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = images.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = images.alpha_composite(white, picture)
    return picture if picture.mode == mode else picture.convert(mode)


class Pictures:
    """A codec of pictures: from their names to pixels, or to the files' bytes.

    Args:
        source: what reads them.
        form: what they are brought to, now where they are small, or later.
        broken: what becomes of one that cannot be read: ``error`` or ``skip``.
    """

    vocab_size = 1 << 8
    dtype = np.dtype(np.uint8)
    lost = BROKEN

    def __init__(self, source: PictureSource, form: Form, broken: str = "error") -> None:
        self.source = source
        self.form = form
        self.broken = broken

    @property
    def fingerprint(self) -> str:
        """Of what is kept; of large pictures it is the files as they are."""
        form = self.form if self.form.small else self.form.channels
        return hashlib.sha256(f"pictures {form} {self.broken}".encode()).hexdigest()

    def encode_packed(self, names: Sequence[str]) -> tuple[Ids, Ints]:
        """The bytes of all, end to end, and how many each has; 0 of a broken one.

        Raises:
            CodecError: for a broken one, unless they are skipped.
        """
        rows = [self._bytes(name, number) for number, name in enumerate(names)]
        sizes = np.fromiter(map(len, rows), PLACE, len(rows))
        return np.frombuffer(b"".join(rows), np.uint8), sizes

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The same as lists."""
        return [list(self._bytes(name, number)) for number, name in enumerate(texts)]

    def _bytes(self, name: str, number: int) -> bytes:
        try:
            held = self.source.read(name)
            picture = decode(held, self.form.channels)  # each is tried, also where it is kept whole
        except DataError as error:
            if self.broken == "skip":
                return b""
            where = error.where or self.source.origin(name)
            raise CodecError(error.what, number, error.hint or LEAVE_OUT, where) from None
        if self.form.small:
            return self.form.pixels(picture).tobytes()
        return held if isinstance(held, bytes) else _packed(picture)


class Names:
    """A codec of what pictures are called in errors."""

    vocab_size = 1 << 8
    dtype = np.dtype(np.uint8)
    takes_empty = True
    fingerprint = "names"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """In UTF-8."""
        return [list(one.encode("utf-8", "replace")) for one in texts]


def _packed(picture: Image) -> bytes:
    """Pixels of a file that holds nothing else, as a picture's file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def pillow() -> Any:
    """The library that decodes.

    Raises:
        RegardError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "pictures") from error
    return Image


def opened(held: Any, channels: int) -> Image:
    """What a user gives, as a picture of 8 bits a channel, grey or of three colors.

    Args:
        held: a file's bytes, a Pillow picture, or an array [H, W] or [H, W, C] of uint8.
        channels: 3 or 1.

    Raises:
        DataError: it is broken.
        InputError: it is none of them.
    """
    images = pillow()
    if not isinstance(held, bytes | images.Image | np.ndarray):
        raise InputError(
            f"{type(held).__name__} is no picture",
            hint="give a path, a file's bytes, a Pillow picture, an array [H, W] or [H, W, C] of "
            "uint8, or a list of them",
        )
    if isinstance(held, images.Image):
        from PIL import ImageOps

        try:
            return flat(ImageOps.exif_transpose(held), "L" if channels == 1 else "RGB")
        except _DAMAGE as error:
            raise DataError(f"the picture cannot be read: {error}") from None
    if isinstance(held, np.ndarray):
        held = np.ascontiguousarray(held[..., 0] if held.ndim == 3 and held.shape[2] == 1 else held)
        if held.dtype != np.uint8 or held.ndim not in (2, 3) or not held.size:
            raise DataError(
                f"an array of pixels is uint8 [H, W] or [H, W, C], not {held.dtype} {held.shape}"
            )
    return decode(held, channels)
