"""What each odd picture becomes, one documented behavior each; prepared data and batches."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from regard.data import BatchSettings, BatchSource, PreparedData, PrepareSettings, prepare
from regard.data.augment import Augmentation, RandAugmentSettings
from regard.data.codecs import Labels
from regard.data.picture_batches import PictureBatches, pixels_of, statistics_of
from regard.data.pictures import Form, Names, Pictures, decode, opened
from regard.data.readers.pictures import open_pictures
from regard.errors import DataError, InputError

Image = pytest.importorskip("PIL.Image")

SMALL, LARGE = Form(6, 6, 3), Form(96, 80, 3)
EVERYTHING = Augmentation(
    (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), pad=2, smallest=0.4, flip=0.5, erase=0.5, mixup=0.3,
    cutmix=1.0, randaugment=RandAugmentSettings(2, 9.0),
)  # fmt: skip


def saved(picture, kind: str = "PNG", **settings) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def colored(width: int = 4, height: int = 2, color=(200, 100, 50)):
    return Image.new("RGB", (width, height), color)


def test_colors_and_grey() -> None:
    made = Form(2, 4, 3).pixels(decode(saved(colored()), 3))
    assert made.shape == (3, 2, 4)
    assert made[:, 0, 0].tolist() == [200, 100, 50]
    grey = Image.new("L", (4, 2), 70)
    assert Form(2, 4, 3).pixels(decode(saved(grey), 3))[:, 1, 1].tolist() == [70, 70, 70]
    assert Form(2, 4, 1).pixels(decode(saved(colored()), 1)).shape == (1, 2, 4)
    assert Form(2, 4, 1).pixels(decode(saved(grey), 1))[0, 0, 0] == 70


def test_palettes_cmyk_and_bits() -> None:
    palette = colored().convert("P")
    assert abs(np.asarray(decode(saved(palette), 3))[0, 0].astype(int) - [200, 100, 50]).max() < 30
    cmyk = decode(saved(colored().convert("CMYK"), "JPEG"), 3)
    assert (cmyk.mode, cmyk.size) == ("RGB", (4, 2))
    assert np.asarray(decode(saved(Image.new("1", (4, 2), 1)), 1)).min() == 255
    deep = Image.fromarray(np.full((2, 4), 0xAB12, np.uint16))
    assert np.asarray(decode(saved(deep), 1)).tolist() == [[0xAB] * 4] * 2


def test_what_is_transparent_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 2), (10, 20, 30, 0))
    assert np.asarray(decode(saved(clear), 3)).min() == 255
    half = Image.new("LA", (4, 2), (0, 128))
    assert abs(int(np.asarray(decode(saved(half), 1))[0, 0]) - 127) <= 1
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([10, 20, 30])
    assert np.asarray(decode(saved(palette, transparency=0), 3)).min() == 255
    assert np.asarray(decode(saved(palette, transparency=bytes([0])), 3)).min() == 255


def test_a_turned_picture_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(colored(4, 2), "JPEG", exif=exif), 3).size == (2, 4)


def test_one_pixel_and_many_frames() -> None:
    one = Form(3, 3, 3).pixels(decode(saved(colored(1, 1)), 3))
    assert one.shape == (3, 3, 3)
    assert np.ptp(one, axis=(1, 2)).tolist() == [0, 0, 0]
    frames = [colored(color=(9, 9, 9)), colored(color=(250, 250, 250))]
    moving = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(moving, 3)).max() == 9


def test_stretched_or_cut() -> None:
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 2:6] = 255
    middle = Form(4, 4, 1, "crop").pixels(opened(wide, 1))
    assert middle.min() == 255
    whole = Form(4, 4, 1).pixels(opened(wide, 1))
    assert whole[0, :, 0].max() < 50
    assert whole[0, :, 1:3].min() > 200


def test_a_part_may_reach_over_the_border_by_a_rounding() -> None:
    form, picture = Form(5, 4, 3), colored(7, 3)
    whole = form.pixels(picture, (-1e-15, 0.0, 7.0 + 1e-15, 3.0 + 1e-15))
    assert np.array_equal(whole, form.pixels(picture))
    for box in ((0.2, 0.3, 0.75, 0.6), (0.0, 0.0, 1.0, 1.0)):
        assert form.pixels(colored(1, 1), box).max() == 200


def test_huge_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (11, 40):  # Pillow warns of the one, and refuses the other
        with pytest.raises(DataError, match="more than 100 pixels"):
            decode(saved(colored(side, side)), 3)
    assert decode(saved(colored(10, 10)), 3).size == (10, 10)


@pytest.mark.parametrize(
    "held",
    [b"", b"hello", saved(colored(64, 64))[:60], saved(colored(64, 64), "JPEG")[:-200]],
    ids=["empty", "text", "cut png", "cut jpeg"],
)
def test_broken(held: bytes) -> None:
    with pytest.raises(DataError, match="the picture cannot be read"):
        decode(held, 3)
    with pytest.raises(DataError, match="floating-point"):
        decode(saved(Image.new("F", (2, 2)), "TIFF"), 3)


def test_what_users_hand_over() -> None:
    held = np.asarray(colored())
    for one in (saved(colored()), colored(), held, colored().convert("RGBA")):
        assert np.array_equal(np.asarray(opened(one, 3)), held)
    assert np.asarray(opened(held[..., :1], 1)).shape == (2, 4)
    for bad in (held.astype(np.float32), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(DataError, match="an array of pixels is uint8"):
            opened(bad, 3)
    with pytest.raises(InputError, match="int is no picture"):
        opened(3, 3)


# Prepared data


def folder(directory: Path, count: int = 10) -> Path:
    random = np.random.default_rng(0)
    for n in range(count):
        path = directory / "pics" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (7 + n % 3, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return directory / "pics"


def prepared(path: Path, form: Form, cache: Path, broken: str = "error") -> PreparedData:
    source = open_pictures({"file": str(path)})
    codecs = {
        "picture": Pictures(source, form, broken),
        "name": Names(),
        "label": Labels(["a", "b"]),
    }
    settings = PrepareSettings(None, "keep")
    return prepare(source, codecs, cache=cache, fields={"name": "picture"}, settings=settings)


@pytest.mark.parametrize("form", [SMALL, LARGE], ids=["small", "large"])
def test_prepared_pictures_are_those_of_the_files(tmp_path: Path, form: Form) -> None:
    path = folder(tmp_path)
    data = prepared(path, form, tmp_path / "cache")
    assert len(data) == 10
    assert form.small == (form is SMALL)
    names = [data.origin(n) for n in range(10)]
    assert names == [str(path / "ab"[n // 5] / f"{2 * (n % 5) + n // 5}.png") for n in range(10)]
    pixels = pixels_of(data, np.arange(10), form)
    for n, name in enumerate(names):
        assert np.array_equal(pixels[n], form.pixels(decode(Path(name).read_bytes(), 3)))
    again = prepared(path, form, tmp_path / "cache")
    assert (again.key, again.digest()) == (data.key, data.digest())
    (tmp_path / "pics").rename(tmp_path / "moved")
    moved = prepared(tmp_path / "moved", form, tmp_path / "cache")
    assert moved.digest() == data.digest()
    assert moved.origin(0) == str(tmp_path / "moved" / "a" / "0.png")


def test_broken_pictures_are_named_or_counted(tmp_path: Path) -> None:
    path = folder(tmp_path)
    bad = path / "a" / "4.png"
    bad.write_bytes(bad.read_bytes()[:50])
    for form in (SMALL, LARGE):
        with pytest.raises(DataError, match=r"a/4\.png: the picture cannot be read") as error:
            prepared(path, form, tmp_path / "cache")
        assert 'data.broken = "skip"' in str(error.value)
        data = prepared(path, form, tmp_path / "cache", "skip")
        assert data.dropped == {"broken": 1}
        assert str(bad) not in [data.origin(n) for n in range(len(data))]


def test_mean_and_deviation(tmp_path: Path) -> None:
    data = prepared(folder(tmp_path), SMALL, tmp_path / "cache")
    pixels = pixels_of(data, np.arange(10), SMALL) / 255.0
    mean, std = statistics_of(data, SMALL)
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-4)
    assert std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-4)
    numbers = Augmentation(mean, std).normalized(pixels_of(data, np.arange(10), SMALL))
    assert numbers.mean(axis=(0, 2, 3)) == pytest.approx([0.0] * 3, abs=2e-3)
    assert numbers.std(axis=(0, 2, 3)) == pytest.approx([1.0] * 3, abs=2e-3)


@pytest.mark.parametrize("form", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("workers", [0, 3])
def test_batches_are_a_pure_function(tmp_path: Path, form: Form, workers: int) -> None:
    data = prepared(folder(tmp_path), form, tmp_path / "cache")
    collate = PictureBatches(form, EVERYTHING, 9, Labels(["a", "b"]))

    def source(prefetch: int = 0) -> BatchSource:
        settings = BatchSettings(4, "sentences", 3, prefetch=prefetch, threads=max(prefetch, 1))
        return BatchSource(data, collate, settings)

    one, other = source(), source(workers)
    seen = []
    for epoch in (0, 1):
        for k in range(one.num_micro_batches(epoch)):
            a, b = one.micro_batch(epoch, k), other.micro_batch(epoch, k)
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)
            seen.append(a)
    other.close()
    assert seen[0]["pixels"].shape == (4, *form.shape)
    assert seen[0]["pixels"].dtype == torch.float32
    assert not torch.equal(seen[0]["pixels"], seen[3]["pixels"])
    assert collate.lengths(data).tolist() == [[9]] * 10


def test_mixed_batches_name_the_others(tmp_path: Path) -> None:
    data = prepared(folder(tmp_path), SMALL, tmp_path / "cache")
    mixing = Augmentation((0.0,) * 3, (1.0,) * 3, mixup=1.0)
    rows = np.array([0, 7, 3])
    collate = PictureBatches(SMALL, mixing, 9, Labels(["a", "b"]))
    plain, mixed = collate(data, rows), collate.drawn(data, rows, seed=1, epoch=0)
    assert "others" not in plain
    assert mixed["labels"].tolist() == plain["labels"].tolist() == [0, 1, 0]
    assert mixed["others"].tolist() == [0, 1, 0][::-1]
    share = float(mixed["share"][0])
    wanted = share * plain["pixels"] + (1 - share) * plain["pixels"].flip(0)
    torch.testing.assert_close(mixed["pixels"], wanted)
