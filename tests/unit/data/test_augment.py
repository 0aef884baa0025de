"""Augmentation: each change is what it says, and follows from (seed, epoch, example) alone."""

from __future__ import annotations

import numpy as np
import pytest

from regard.data.augment import (
    RATIOS,
    Augmentation,
    RandAugmentSettings,
    random_parts,
    shifted,
    stretched,
)
from regard.data.draws import Draws
from regard.data.randaugment import OPERATIONS, RandAugment

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (8, 3, 12, 10), dtype=np.uint8)
ROWS = np.arange(8) * 5 + 2

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
CHANGES = {
    "pad": Augmentation(**PLAIN, pad=3),
    "flip": Augmentation(**PLAIN, flip=0.5),
    "randaugment": Augmentation(**PLAIN, randaugment=RandAugmentSettings(2, 15.0)),
}


def draws(rows=ROWS, *, seed: int = 1, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, rows)


def test_draws_are_even_and_depend_on_all() -> None:
    many = Draws(1, 2, np.arange(4000))(4)
    assert many.shape == (4000, 4)
    assert ((many >= 0) & (many < 1)).all()
    assert many.mean(axis=0) == pytest.approx([0.5] * 4, abs=0.02)
    assert np.abs(np.corrcoef(many.T) - np.eye(4)).max() < 0.06
    assert len(np.unique(many)) == many.size
    for other in (draws(seed=2), draws(epoch=1), draws(ROWS + 1)):
        assert not np.intersect1d(other(3), draws()(3)).size


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_depends_on_no_neighbor(name: str) -> None:
    whole = CHANGES[name].changed(PICTURES, draws())
    assert whole.shape == PICTURES.shape
    assert whole.dtype == np.uint8
    assert not np.array_equal(whole, PICTURES)
    for n in range(len(ROWS)):
        alone = CHANGES[name].changed(PICTURES[n : n + 1], draws(ROWS[n : n + 1]))
        assert np.array_equal(alone[0], whole[n])


def test_a_window_of_the_padded_picture() -> None:
    made = shifted(PICTURES, draws(), 3)
    wide = np.pad(PICTURES, ((0, 0), (0, 0), (3, 3), (3, 3)))
    for picture, whole in zip(made, wide, strict=True):
        found = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if np.array_equal(whole[:, y : y + 12, x : x + 10], picture)
        ]
        assert len(found) == 1


def test_flips_are_flips() -> None:
    made = Augmentation(**PLAIN, flip=1.0).changed(PICTURES, draws())
    assert np.array_equal(made, PICTURES[..., ::-1])
    half = Augmentation(**PLAIN, flip=0.5).changed(
        np.broadcast_to(PICTURES[:1], (2000, 3, 12, 10)), draws(np.arange(2000))
    )
    assert (half == PICTURES[0]).all(axis=(1, 2, 3)).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [(40, 20), (100, 1000), (7, 7), (300, 1)])
@pytest.mark.parametrize("share", [(0.1, 1.0), (0.5, 1.0), (0.02, 0.33)])
def test_random_parts_lie_inside_and_have_their_share(size, share) -> None:
    height, width = size
    y, x, h, w = random_parts(draws(np.arange(500))(4), np.tile(size, (500, 1)), *share).T
    assert (y >= 0).all()
    assert (x >= 0).all()
    assert (y + h <= height + 1e-9).all()
    assert (x + w <= width + 1e-9).all()
    shares, middle = h * w / (height * width), sum(share) / 2
    assert shares.min() >= share[0] - 1e-9
    assert shares.max() <= share[1] + 1e-9
    assert shares.mean() == pytest.approx(middle, rel=0.1)
    whole = np.isclose(h, height) | np.isclose(w, width)
    usual = (w / h >= RATIOS[0] - 1e-9) & (w / h <= RATIOS[1] + 1e-9)
    assert (usual | whole).all()  # another shape where it must be


def test_stretching_as_pillow_does() -> None:
    images = pytest.importorskip("PIL.Image")
    boxes = np.array([[2.0, 1.0, 6.0, 5.0], [0.0, 0.0, 12.0, 10.0]])
    made = stretched(PICTURES[:2], boxes)
    assert np.array_equal(made[1], PICTURES[1])
    picture = images.fromarray(PICTURES[0].transpose(1, 2, 0))
    y, x, h, w = boxes[0]
    wanted = picture.resize((10, 12), images.Resampling.BILINEAR, (x, y, x + w, y + h))
    inner = (np.asarray(wanted).transpose(2, 0, 1).astype(int) - made[0])[:, 1:-1, 1:-1]
    assert np.abs(inner).max() <= 1  # at the border Pillow looks at no pixel outside of the box


def test_erasing_and_mixing() -> None:
    numbers = np.ones((8, 3, 12, 10), np.float32)
    made = Augmentation(**PLAIN, erase=1.0).erased(numbers.copy(), draws())
    assert (made == 0).any(axis=(1, 2, 3)).sum() >= 7
    assert 0.0 < (made == 0).mean() < 0.4
    assert Augmentation(**PLAIN).mixed(numbers, 1, 0, 3) == (numbers, 1.0)
    numbers = np.arange(8, dtype=np.float32)[:, None, None, None] * numbers
    shares = []
    for first in range(40):
        cut, share = Augmentation(**PLAIN, cutmix=1.0).mixed(numbers, 1, 0, first)
        assert (cut[0] == 0).mean() == pytest.approx(share)
        assert set(np.unique(cut[0])) <= {0.0, 7.0}
        shares.append(share)
    assert 0.5 < np.mean(shares) < 0.8  # a box that reaches over the border is smaller
    assert len(set(shares)) > 10


# RandAugment


def as_pillow(pictures):
    images = pytest.importorskip("PIL.Image")
    return [images.fromarray(one.transpose(1, 2, 0)) for one in pictures]


def by_name(name: str):
    return next(operation for operation in OPERATIONS if operation.__name__ == name)


def enhanced(name: str):
    from PIL import ImageEnhance

    return lambda picture: getattr(ImageEnhance, name)(picture).enhance(1.0 + 0.9 * 0.4)


def turned(name: str):
    from PIL import ImageOps

    return {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "posterize": lambda picture: ImageOps.posterize(picture, 8 - round(4 * 0.4)),
        "solarize": lambda picture: ImageOps.solarize(picture, 256 * 0.6),
    }[name]


def test_there_are_fourteen_that_keep_the_shape() -> None:
    assert len({operation.__name__ for operation in OPERATIONS}) == 14
    for pictures in (PICTURES, PICTURES[:, :1], PICTURES[:, :, :1, :2]):
        for operation in OPERATIONS:
            for strength in (-1.0, -0.3, 0.0, 0.3, 1.0):
                made = operation(pictures, np.full(len(pictures), strength))
                assert made.shape == pictures.shape, operation
                assert made.dtype == np.uint8, operation


def test_no_strength_changes_nothing() -> None:
    for operation in OPERATIONS:
        if operation.__name__ not in ("autocontrast", "equalize"):
            assert np.array_equal(operation(PICTURES, np.zeros(8)), PICTURES), operation


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "posterize", "solarize"])
def test_as_pillow_turns_values(name: str) -> None:
    made = by_name(name)(PICTURES, np.full(8, 0.4))
    for mine, picture in zip(made, as_pillow(PICTURES), strict=True):
        theirs = np.asarray(turned(name)(picture)).transpose(2, 0, 1)
        assert np.abs(mine.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", ["Brightness", "Color", "Contrast", "Sharpness"])
def test_as_pillow_enhances(name: str) -> None:
    made = by_name(name.lower())(PICTURES, np.full(8, 0.4))
    for mine, picture in zip(made, as_pillow(PICTURES), strict=True):
        theirs = np.asarray(enhanced(name)(picture)).transpose(2, 0, 1)
        assert np.abs(mine.astype(int) - theirs).max() <= 2


def test_where_things_move() -> None:
    square = np.zeros((1, 1, 9, 9), np.uint8)
    square[:, :, 4, 6] = 255

    def place(name: str, strength: float) -> list[int]:
        made = by_name(name)(square, np.array([strength]))
        return np.argwhere(made[0, 0] == 255)[0].tolist()

    pixels = round(150 / 331 * 9 * 0.5)
    assert place("translate_x", 0.5) == [4, 6 - pixels]
    assert place("translate_y", 0.5) == [4 - pixels, 6]
    assert place("rotate", 3.0) == [2, 4]  # a quarter
    assert place("shear_x", 1.0) == [4, 6]  # the middle row stays
    filled = by_name("translate_x")(square, np.array([1.0]))
    assert (filled[0, 0, :, -2:] == 128).all()


def test_operations_are_drawn_alike() -> None:
    flat = np.full((3000, 1, 4, 4), 100, np.uint8)
    flat[:, :, :2] = 30
    made = RandAugment(1, 30.0)(flat, draws(np.arange(3000)))
    same = (made == flat).all(axis=(1, 2, 3)).mean()
    assert 2 / 14 < same < 0.5  # some change nothing in a picture as plain as this
    assert np.array_equal(flat[0, 0, 0], [30] * 4)  # what was given stays
