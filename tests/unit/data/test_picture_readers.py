"""Pictures by class: folders, archives, tables, IDX files; what goes wrong names the file."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from regard.data.readers.idx import read_idx
from regard.data.readers.pictures import NO_PICTURE, Folder, Idx, Tar, Zip, open_pictures
from regard.errors import DataError, RecipeError

NAMES = ["cat/1.png", "cat/2.PNG", "dog/1.jpg"]
LABELS = ["cat", "cat", "dog"]


def files(directory: Path) -> Path:
    """Two classes; what no reader decodes may hold anything."""
    for name in [*NAMES, "cat/notes.txt", ".hidden/x.png", "__MACOSX/cat/1.png"]:
        path = directory / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return directory / "pets"


def packed(directory: Path, ending: str) -> Path:
    pets, made = files(directory), directory / f"pets{ending}"
    found = sorted(path for path in pets.rglob("*") if path.is_file())
    if ending == ".zip":
        with zipfile.ZipFile(made, "w") as archive:
            for path in found:
                archive.write(path, path.relative_to(directory).as_posix())
        return made
    with tarfile.open(made, f"w:{ending[5:]}" if ending != ".tar" else "w") as archive:
        archive.add(pets, arcname=".")
    return made


def idx(path: Path, values: np.ndarray) -> Path:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    data = head + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_the_label_is_the_folder(tmp_path: Path, ending: str) -> None:
    path = packed(tmp_path, ending) if ending else files(tmp_path)
    source = open_pictures({"file": str(path)})
    assert isinstance(source, {"": Folder, ".zip": Zip}.get(ending, Tar))
    found = [tuple(example.fields) for example in source]
    assert [label for _, label in found] == LABELS
    for (name, _), wanted in zip(found, NAMES, strict=True):
        assert bytes(source.read(name)).decode() == wanted
        assert source.origin(name).startswith(str(path))
        assert wanted in source.origin(name)
    assert source.left_out == {NO_PICTURE: 1}
    assert list(source) == list(source)


def test_a_table_of_other_names_is_told_how_to_say_them(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_text("path,class\n")
    (tmp_path / "pets.jsonl").write_text('{"path": "x.png", "class": "cat"}\n')
    for name in ("pets.csv", "pets.jsonl"):
        with pytest.raises(DataError, match=r"no field 'picture'\n.*fields: path, class") as caught:
            open_pictures({"file": str(tmp_path / name)})
        assert 'fields = { COLUMN = "FIELD" }' in str(caught.value)


def test_a_folder_without_a_picture_is_counted(tmp_path: Path) -> None:
    pets = files(tmp_path)
    before = open_pictures({"file": str(pets)}).identity
    for name in ("birds", "fish/small", ".cache/deep"):
        (pets / name).mkdir(parents=True)
    (pets / "birds" / "notes.txt").write_text("none yet")
    source = open_pictures({"file": str(pets)})
    assert [example.fields[1] for example in source] == LABELS
    empty = {f"folder without a picture: {name}": 1 for name in ("birds", "fish/small")}
    assert source.left_out == {NO_PICTURE: 2, **empty}
    assert source.identity != before  # what is prepared once says so again


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_tables_of_paths(tmp_path: Path, ending: str) -> None:
    files(tmp_path)
    rows = [(f"pets/{name}", label) for name, label in zip(NAMES, LABELS, strict=True)]
    path = tmp_path / f"pets{ending}"
    if ending == ".jsonl":
        lines = [json.dumps({"path": name, "class": label}) for name, label in rows]
    else:
        mark = "," if ending == ".csv" else "\t"
        lines = [mark.join(row) for row in [("path", "class"), *rows]]
    path.write_text("\n".join(lines) + "\n")
    fields = {"picture": "path", "label": "class"}
    source = open_pictures({"file": str(path), "fields": fields})
    assert [tuple(one.fields) for one in source] == rows
    assert [one.origin for one in source][-1] == f"{path}:{4 - (ending == '.jsonl')}"
    assert source.read(rows[1][0]) == b"cat/2.PNG"
    assert set(source.files) == {path, *(tmp_path / "pets" / name for name in NAMES)}


def test_a_table_names_a_missing_picture(tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "pets.csv").write_text("picture,label\npets/cat/1.png,cat\npets/cat/9.png,cat\n")
    with pytest.raises(DataError, match=r"pets\.csv:3: .*9\.png: there is no such file") as error:
        open_pictures({"file": str(tmp_path / "pets.csv")})
    assert "did you mean" in str(error.value)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx(tmp_path: Path, ending: str) -> None:
    pixels = np.arange(24).reshape(2, 3, 4)
    pictures = idx(tmp_path / f"p{ending}", pixels)
    labels = idx(tmp_path / f"l{ending}", np.array([7, 0]))
    source = open_pictures({"source": str(pictures), "target": str(labels)})
    assert isinstance(source, Idx)
    assert [tuple(one.fields) for one in source] == [("1", "7"), ("2", "0")]
    assert np.array_equal(source.read("2"), pixels[1])


def test_idx_that_is_not_whole(tmp_path: Path) -> None:
    good = idx(tmp_path / "good", np.zeros((2, 3, 4)))
    for name, data, said in [
        ("cut", good.read_bytes()[:-1], "23 bytes, not the 24"),
        ("other", b"hello world", "no IDX file"),
        ("floats", b"\0\0\x0d\x01\0\0\0\0", "type 0x0d"),
        ("head", b"\0\0\x08\x03\0\0", "bytes, not"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=said) as error:
            read_idx(tmp_path / name)
        assert error.value.where == str(tmp_path / name)
    few = idx(tmp_path / "few", np.array([1]))
    with pytest.raises(DataError, match="2 pictures for 1 labels"):
        list(open_pictures({"source": str(good), "target": str(few)}))
    with pytest.raises(DataError, match="3 dimensions or 4, not 1"):
        list(open_pictures({"source": str(few), "target": str(few)}))


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    whole = packed(tmp_path, ".zip")
    data = bytearray(whole.read_bytes())
    data[data.index(b"dog/1.jpgdog/1.jpg") + 9] ^= 0xFF  # its checksum is wrong now
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    source = open_pictures({"file": str(bad)})
    names = [name for name, _ in source.named()]
    assert source.read(names[0])
    with pytest.raises(DataError) as error:
        source.read(names[-1])
    assert str(bad) in (error.value.where or "")
    for name in ("cut.zip", "cut.tar.gz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 no archive")
        with pytest.raises(DataError, match="cannot be read") as error:
            list(open_pictures({"file": str(tmp_path / name)}))
        assert error.value.where == str(tmp_path / name)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_tar_is_not_searched_for_each_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    source = open_pictures({"file": str(packed(tmp_path, ending))})
    names = [name for name, _ in source.named()]
    for name in ("getmember", "getmembers"):
        monkeypatch.delattr(tarfile.TarFile, name)
    assert [source.read(name) for name in names] == [name.encode() for name in NAMES]


def test_what_is_no_data(tmp_path: Path) -> None:
    pets = files(tmp_path)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match="no folder that could be its class"):
        list(open_pictures({"file": str(tmp_path / "flat")}))
    with pytest.raises(DataError, match="kind of these pictures cannot be told"):
        open_pictures({"file": str(pets / "cat" / "notes.txt")})
    with pytest.raises(DataError, match="no such file"):
        open_pictures({"file": str(tmp_path / "nothing")})
    with pytest.raises(RecipeError, match="this is none"):
        open_pictures({"file": str(pets), "fields": {"picture": "a", "label": "b"}})
    with pytest.raises(RecipeError, match="unknown key 'labels'"):
        open_pictures({"file": str(pets), "labels": "x"})


def test_a_member_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path, ".tar")
    monkeypatch.setattr("regard.data.readers.pictures.MOST_BYTES", 3)
    source = open_pictures({"file": str(path)})
    with pytest.raises(DataError, match="no picture has so many"):
        source.read(next(iter(source.named()))[0])


def test_a_tar_that_ends_early(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("cat/1.png")
        info.size = 4000
        archive.addfile(info, io.BytesIO(bytes(4000)))
    path = tmp_path / "cut.tar"
    path.write_bytes(file.getvalue()[:1500])
    source = open_pictures({"file": str(path)})
    with pytest.raises(DataError, match=r"cut\.tar"):
        source.read(next(iter(source.named()))[0])
