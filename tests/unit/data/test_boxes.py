"""Boxes: through the codec, mirrored, cut; readers' errors."""

import json

import numpy as np
import pytest

from regard.data.boxes import Boxes, cropped, mirrored
from regard.data.codecs import CodecError
from regard.data.readers.boxes import boxes_of, open_boxes
from regard.errors import DataError, RecipeError


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


def coco(tmp_path, **changes):
    held = {
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [30, 5, 20, 5], "iscrowd": 1}],
    }
    (tmp_path / "some.json").write_text(json.dumps({**held, **changes}))
    return open_boxes({"file": str(tmp_path / "some.json")})


def test_coco(tmp_path):
    ((name, text),) = coco(tmp_path).named()
    assert name == "a.png"
    assert boxes_of(text) == ((40.0, 20.0), [(30.0, 5.0, 40.0, 10.0, "cat", 1)])


@pytest.mark.parametrize(
    "changes",
    [
        {"categories": []},
        {"images": []},
        {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}]},
        {"annotations": 5},
    ],
)
def test_a_damaged_coco_file_is_named(tmp_path, changes):
    with pytest.raises(DataError, match=r"some\.json: this is no COCO file"):
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
