"""What is no folder of classes is refused before it is taken for one."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from regard.data.readers.pictures import open_pictures
from regard.errors import DataError


def packed(directory: Path, kind: str, names: list[str]) -> Path:
    """Files of these names in a folder, a zip or a tar; what no reader decodes may be empty."""
    made = directory / f"data{kind}"
    for name in names:
        path = directory / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if kind == ".zip":
        with zipfile.ZipFile(made, "w") as archive:
            for name in names:
                archive.write(directory / "files" / name, name)
        return made
    if kind == ".tar":
        with tarfile.open(made, "w") as archive:
            for name in names:
                archive.add(directory / "files" / name, name)
        return made
    (directory / "files").mkdir(exist_ok=True)
    return directory / "files"


def read(path: Path) -> list[str]:
    return [label for _, label in open_pictures({"file": str(path)}).named()]


KINDS = pytest.mark.parametrize("kind", ["", ".zip", ".tar"])


def refused(path: Path, words: str) -> str:
    """The hint of the error that names the path."""
    with pytest.raises(DataError, match=words) as caught:
        read(path)
    assert caught.value.where == str(path)
    return str(caught.value.hint)


@KINDS
@pytest.mark.parametrize(
    "names",
    [
        ["train/1.png", "valid/2.png"],
        ["photos/Train/cat/1.png", "photos/Train/dog/1.png", "photos/test/cat/2.png"],
        ["train/cat/1.png", "val/cat/2.png", "notes/x/3.png"],
    ],
)
def test_parts_of_the_data_are_no_classes(tmp_path: Path, kind: str, names: list[str]) -> None:
    hint = refused(packed(tmp_path, kind, names), "parts of the data, not classes")
    assert "data.train.file" in hint


@pytest.mark.parametrize(
    "names",
    [
        ["car/1.png", "train/2.png"],  # of a railway
        ["test/1.png", "valid/2.png"],
        ["train/cat/1.png", "train/dog/2.png"],  # one part alone
        ["cat/train/1.png", "dog/test/2.png"],
    ],
)
def test_what_only_looks_like_parts_is_read(tmp_path: Path, names: list[str]) -> None:
    assert read(packed(tmp_path, "", names)) == [Path(name).parent.name for name in names]


@KINDS
@pytest.mark.parametrize("names", [[], ["cat/notes.txt"]])
def test_without_a_picture(tmp_path: Path, kind: str, names: list[str]) -> None:
    hint = refused(packed(tmp_path, kind, names), "there is no picture in it")
    assert "a folder for each class" in hint


def test_an_empty_file_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "data.tar"
    path.touch()
    with pytest.raises(DataError, match="no tar archive") as caught:
        read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.what


@KINDS
def test_boxes_are_no_classes(tmp_path: Path, kind: str) -> None:
    path = packed(tmp_path, kind, ["d/Annotations/1.xml", "d/JPEGImages/1.jpg"])
    with pytest.raises(DataError, match="it holds boxes") as caught:
        read(path)
    assert "object-detection" in str(caught.value.hint)
    coco = tmp_path / "train.json"
    coco.touch()
    with pytest.raises(DataError) as caught:
        read(coco)
    assert "object-detection" in str(caught.value.hint)


@pytest.mark.parametrize(("row", "lacks"), [("1.png,", "label"), (",cat", "picture")])
def test_a_row_without_a_field_is_named(tmp_path: Path, row: str, lacks: str) -> None:
    (tmp_path / "1.png").touch()
    table = tmp_path / "some.csv"
    table.write_text(f"picture,label\n1.png,cat\n\n{row}\n")
    with pytest.raises(DataError, match=f"the row has no {lacks}") as caught:
        read(table)
    assert caught.value.where == f"{table}:4"
