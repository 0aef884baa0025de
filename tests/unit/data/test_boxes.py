"""Boxes: through the codec, mirrored, cut, turned; with their pixels; readers' errors."""

import gc
import io
import json
import tarfile
import weakref
import zipfile

import numpy as np
import pytest

from regard.data import PrepareSettings, pictures, prepare
from regard.data.augment import Augmentation
from regard.data.boxes import BoxBatches, Boxes, Carried, cropped, mirrored
from regard.data.codecs import CodecError
from regard.data.picture_batches import PictureBatches
from regard.data.pictures import Form, Names, Pictures, decode
from regard.data.readers.boxes import boxes_of, open_boxes
from regard.errors import DataError, RecipeError

Image = pytest.importorskip("PIL.Image")


def line(*boxes, size=(40, 20)):
    return json.dumps({"size": size, "boxes": [[*box, 0] for box in boxes]})


def close(found, classes, edges):
    assert found[0].tolist() == classes
    np.testing.assert_allclose(found[1], np.array(edges, np.float32).reshape(-1, 4), atol=1e-6)


def test_boxes_come_back_as_shares_of_the_sides():
    codec = Boxes(["cat", "dog"])
    texts = [line((0, 5, 10, 20, "dog"), (20, 0, 40, 10, "cat")), line()]
    first, second = codec.encode_batch(texts)
    close(Boxes.found(np.array(first)), [1, 0], [[0, 0.25, 0.25, 1], [0.5, 0, 1, 0.5]])
    close(Boxes.found(np.array(second)), [], [])
    with pytest.raises(CodecError, match="'cow' is not among the labels"):
        codec.encode_batch([line(), line((0, 0, 1, 1, "cow"))])


def test_crowds_are_not_learned():
    text = json.dumps({"size": [10, 10], "boxes": [[0, 0, 5, 5, "cat", 1], [1, 1, 2, 2, "dog", 0]]})
    assert Boxes.split(text) == ["dog"]
    assert Boxes(["dog"]).encode_batch([text])[0][0] == 1


def found(*edges):
    return np.arange(len(edges)), np.array(edges, np.float32)


def test_mirrored():
    close(mirrored(found([0.1, 0.2, 0.4, 0.9]), 0), [0], [[0.6, 0.2, 0.9, 0.9]])
    close(mirrored(found([0.1, 0.2, 0.4, 0.9]), 1), [0], [[0.1, 0.1, 0.4, 0.8]])


def test_cropped():
    """The lower right quarter: a box inside, one cut, one that is hardly left, one gone."""
    boxes = found(
        [0.6, 0.6, 0.8, 0.9], [0.4, 0.6, 0.8, 0.8], [0.2, 0.6, 0.55, 0.8], [0.0, 0.0, 0.4, 0.4]
    )
    made = cropped(boxes, np.array([0.5, 0.5, 0.5, 0.5]))
    close(made, [0, 1], [[0.2, 0.2, 0.6, 0.8], [0.0, 0.2, 0.6, 0.6]])


BOX, SIZE = (7, 3, 22, 13), (40, 20)


def scene(box=BOX, size=SIZE):
    """A bright box on a dark ground."""
    made = Image.new("RGB", size, (10, 10, 10))
    made.paste((250, 250, 250), box)
    return made


def saved(picture, kind="PNG", **settings) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def note(box=BOX, size=SIZE, before="") -> bytes:
    keys = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    edges = "".join(f"<{key}>{edge}</{key}>" for key, edge in keys)
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    found = f"<object><name>cat</name><bndbox>{edges}</bndbox></object>"
    return f"{before}<annotation>{said}{found}</annotation>".encode()


def written(folder, files):
    for name, held in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(held)
    return {"file": str(folder)}


def bright(pixels):
    """Left, top, right, bottom of what is bright [H, W]."""
    rows, columns = (np.flatnonzero((pixels > 130).any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_boxes_lie_on_what_exif_turned(tmp_path, turn, kind):
    exif = Image.Exif()
    exif[0x0112] = turn
    file = saved(scene(), kind, exif=exif)
    shown = decode(file, 1)
    edges = bright(np.asarray(shown))
    of_file, of_shown = note(), note(edges, shown.size)
    for text in (of_file, of_shown) if turn > 4 else (of_shown,):
        source = open_boxes(written(tmp_path, {"a.jpg": file, "a.xml": text}))
        ((_, line),) = Carried(source).named()
        size, ((*carried, name, crowd),) = boxes_of(line)
        assert (size, carried, name, crowd) == (shown.size, edges, "cat", 0)


@pytest.mark.parametrize("size", [(80, 40), (20, 40), (40, 21)])
def test_an_annotation_of_another_size_is_named_with_its_picture(tmp_path, size):
    data = written(
        tmp_path, {"JPEGImages/a.png": saved(scene()), "Annotations/a.xml": note(BOX, size)}
    )
    with pytest.raises(DataError, match=rf"a\.xml: .* {size[0]} × {size[1]} .* 40 × 20: .*a\.png"):
        list(Carried(open_boxes(data)))


def prepared(data, form, cache):
    source = Carried(open_boxes(data))
    codecs = {"picture": Pictures(source, form), "name": Names(), "label": Boxes(["cat"])}
    settings = PrepareSettings(None, "keep")
    return prepare(source, codecs, cache=cache, fields={"name": "picture"}, settings=settings)


SMALL, LARGE = Form(40, 60, 3), Form(80, 120, 3)
EVERY = Augmentation((0.0,) * 3, (1.0,) * 3, smallest=0.5, flip=0.5, upend=0.5)


def boxed(tmp_path, count=12):
    random, files = np.random.default_rng(3), {}
    for number in range(count):
        left, top = int(random.integers(0, 70)), int(random.integers(0, 40))
        box = left, top, left + 25, top + 15
        files[f"{number}.png"] = saved(scene(box, (100, 60)))
        files[f"{number}.xml"] = note(box, (100, 60))
    return written(tmp_path / "data", files)


@pytest.mark.parametrize("form", [SMALL, LARGE], ids=["small", "large"])
def test_boxes_follow_the_pixels_through_every_change(tmp_path, form):
    data = prepared(boxed(tmp_path), form, tmp_path / "cache")
    collate, seen = BoxBatches(form, EVERY, 9, Boxes(["cat"]), 2), 0
    for epoch in range(6):
        made = collate.drawn(data, np.arange(12), seed=1, epoch=epoch)
        for pixels, labels, boxes in zip(
            made["pixels"].numpy(), made["labels"], made["boxes"].numpy(), strict=True
        ):
            if labels[0] == 0:
                x, y, width, height = boxes[0]
                edges = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
                found = bright(255.0 * pixels[0])
                assert abs(edges * np.tile([form.width, form.height], 2) - found).max() < 2.0
                seen += 1
    assert seen > 50


def test_one_large_picture_lives_at_a_time(tmp_path, monkeypatch, request):
    held, real = list[weakref.ref](), pictures._decode

    def counted(*given):
        gc.collect()
        assert not [one for one in held if one() is not None]
        made = real(*given)
        held.append(weakref.ref(made))
        return made

    data = prepared(boxed(tmp_path), LARGE, tmp_path / "cache")
    monkeypatch.setattr(pictures, "_decode", counted)
    gc.freeze()  # what other tests left need not be looked through 48 times
    request.addfinalizer(gc.unfreeze)
    target, rows = Boxes(["cat"]), np.arange(12)
    for batches in (
        BoxBatches(LARGE, EVERY, 9, target, 2),
        PictureBatches(LARGE, EVERY, 9, target),
    ):
        batches._batch = lambda *given: {}
        batches.drawn(data, rows, seed=1, epoch=0)
        batches(data, rows)
    assert len(held) == 48


def coco(tmp_path, **changes):
    held = {
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [30, 5, 20, 5], "iscrowd": 1}],
    }
    (tmp_path / "some.json").write_text(json.dumps({**held, **changes}))
    (tmp_path / "a.png").write_bytes(saved(scene()))
    return open_boxes({"file": str(tmp_path / "some.json")})


def test_coco(tmp_path):
    ((name, text),) = coco(tmp_path).named()
    assert name == "a.png"
    assert boxes_of(text) == ((40.0, 20.0), [(30.0, 5.0, 40.0, 10.0, "cat", 1)])


def test_coco_is_prepared_again_for_other_pictures(tmp_path):
    source, form = {"file": str(tmp_path / "some.json")}, Form(8, 8, 3)
    assert coco(tmp_path).files == (tmp_path / "some.json", tmp_path / "a.png")
    box = {"image_id": 7, "category_id": 3, "bbox": [30, 5, 5, 5]}
    coco(tmp_path, annotations=[box])
    first = prepared(source, form, tmp_path / "cache")
    (tmp_path / "a.png").write_bytes(saved(scene((0, 0, *SIZE))))
    second = prepared(source, form, tmp_path / "cache")
    assert first.digest() != second.digest()
    assert set(second.column("picture").ids.tolist()) == {250}


def test_coco_names_a_missing_picture(tmp_path):
    images = [{"id": 7, "file_name": "b.png", "width": 40, "height": 20}]
    with pytest.raises(DataError, match=r"some\.json: .*b\.png: there is no such file"):
        coco(tmp_path, images=images)


ANNOTATION = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"categories": []}, r"annotations\[0\], there is no 3"),
        ({"images": []}, r"annotations\[0\], there is no 7"),
        (
            {"annotations": [ANNOTATION, {**ANNOTATION, "bbox": [1, 2, 3]}]},
            r"annotations\[1\], not enough",
        ),
        ({"annotations": [ANNOTATION, {"image_id": 7}]}, r"annotations\[1\], there is no 'bbox'"),
        ({"annotations": 5}, "the whole"),
    ],
)
def test_a_damaged_coco_file_is_named(tmp_path, changes, said):
    with pytest.raises(DataError, match=r"some\.json: this is no COCO file of boxes: of " + said):
        list(coco(tmp_path, **changes).named())


def test_what_describes_no_boxes_is_refused(tmp_path):
    (tmp_path / "some.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="no folder, zip or tar"):
        open_boxes({"file": str(tmp_path / "some.csv")})
    with pytest.raises(RecipeError, match="pictures means nothing here"):
        open_boxes({"file": str(tmp_path), "pictures": "x"})
    with pytest.raises(RecipeError, match="part means nothing here"):
        open_boxes({"file": str(tmp_path / "some.json"), "part": "train"})
    with pytest.raises(RecipeError, match="file is needed"):
        open_boxes({"part": "train"})
    with pytest.raises(DataError, match="no such file"):
        open_boxes({"file": str(tmp_path / "nothing.zip")})


def test_what_voc_lacks_is_named(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="there is no annotation") as caught:
        list(open_boxes({"file": str(tmp_path)}).named())
    assert "Annotations/*.xml beside JPEGImages" in str(caught.value)
    assert ".json" in str(caught.value)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "img7.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=r"Annotations/img7\.xml: there is no picture img7 "):
        list(open_boxes({"file": str(tmp_path)}).named())
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("img8\n")
    with pytest.raises(DataError, match=r"Main/train\.txt: there is no annotation img8\.xml"):
        list(open_boxes({"file": str(tmp_path), "part": "train"}).named())


def test_a_mask_is_not_taken_for_the_picture(tmp_path):
    with tarfile.open(tmp_path / "voc.tar", "w") as archive:
        for name, held in {
            "VOC/SegmentationClass/a.png": saved(scene((0, 0, 0, 0))),
            "VOC/Annotations/a.xml": note(),
            "VOC/JPEGImages/a.jpg": saved(scene(), "JPEG"),
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(held)
            archive.addfile(member, io.BytesIO(held))
    ((name, _),) = open_boxes({"file": str(tmp_path / "voc.tar")}).named()
    assert name == "VOC/JPEGImages/a.jpg"


@pytest.mark.parametrize("pair", ["{0}/a.xml {0}/a.png", "{0}/annotations/a.xml {0}/images/a.png"])
def test_equal_names_in_two_folders_are_two_pictures(tmp_path, pair):
    for part in ("train", "valid"):
        first, second = pair.format(part).split()
        lists = f"{part}/ImageSets/Main/all.txt"
        written(tmp_path, {first: note(), second: saved(scene()), lists: b"a\n"})
    for data in ({}, {"part": "all"}):
        names = [name for name, _ in open_boxes({"file": str(tmp_path), **data}).named()]
        assert names == [pair.split()[1].format(part) for part in ("train", "valid")]


def test_what_is_not_one_to_one_is_named(tmp_path):
    picture = saved(scene())
    two = written(tmp_path / "two", {"a.xml": note(), "a.png": picture, "a.jpg": picture})
    with pytest.raises(
        DataError, match=r"a\.xml: there are several pictures of it: a\.jpg, a\.png"
    ):
        list(open_boxes(two).named())
    notes = {"images/a.xml": note(), "images/a.png": picture, "Annotations/a.xml": note()}
    with pytest.raises(DataError, match=r"images/a\.xml: its picture has another annotation"):
        list(open_boxes(written(tmp_path / "notes", notes)).named())
    lists = {"ImageSets/Main/all.txt": b"a\n", "x/a.xml": note(), "y/a.xml": note()}
    with pytest.raises(DataError, match=r"all\.txt: there are 2 annotations a\.xml"):
        list(open_boxes({**written(tmp_path / "lists", lists), "part": "all"}).named())


def test_hidden_files_of_an_archive_are_passed_by(tmp_path):
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        for name, held in {"d/Annotations/a.xml": note(), "d/JPEGImages/a.png": b""}.items():
            folder, _, last = name.rpartition("/")
            archive.writestr(name, held)
            archive.writestr(f"__MACOSX/{folder}/._{last}", b"\0\5\x16\7")
    ((name, _),) = open_boxes({"file": str(tmp_path / "mac.zip")}).named()
    assert name == "d/JPEGImages/a.png"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_comments_are_read_over_and_declarations_refused(tmp_path, encoding):
    for before in ("<!-- <!DOCTYPE a> by hand -->", '<!DOCTYPE a [<!ENTITY b "c">]>'):
        text = note(before=before).decode().encode(encoding)
        source = open_boxes(written(tmp_path, {"a.xml": text, "a.png": b""}))
        if before.endswith("-->"):
            assert len(list(source.named())) == 1
        else:
            with pytest.raises(DataError, match=r"a\.xml: .*declarations are not read"):
                list(source.named())
