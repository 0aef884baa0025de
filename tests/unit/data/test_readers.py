"""Every behaviour that the readers' table promises."""

from __future__ import annotations

import gzip
import io
import json
import sys
import types
from pathlib import Path

import pytest

from regard.data.readers import (
    ParallelText,
    Table,
    check_file,
    count_lines,
    open_source,
    read_lines,
)
from regard.errors import DataError, RecipeError, RegardError


def write(path: Path, data: bytes) -> Path:
    """The bytes in a file, compressed as its name says."""
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        import zstandard

        data = zstandard.ZstdCompressor().compress(data)
    path.write_bytes(data)
    return path


@pytest.fixture(params=["plain", "gz", "zst"])
def suffix(request: pytest.FixtureRequest) -> str:
    if request.param == "zst":
        pytest.importorskip("zstandard")
    return {"plain": ".txt", "gz": ".txt.gz", "zst": ".txt.zst"}[request.param]


def test_lines_of_every_packing(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", "eins\nzwei ä\n\nvier".encode())
    assert list(read_lines(path)) == ["eins", "zwei ä", "", "vier"]
    assert count_lines(path) == 4


def test_crlf_is_a_line_end_and_a_lone_cr_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one\r\ntwo\rthree\r\nfour\n")
    assert list(read_lines(path)) == ["one", "two\rthree", "four"]


def test_only_lf_ends_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x00h"
    assert list(read_lines(write(tmp_path / "a.txt", f"{text}\nx\n".encode()))) == [text, "x"]


def test_mark_is_skipped_at_the_start_alone(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", "\ufeffone\n\ufefftwo\n".encode())
    assert list(read_lines(path)) == ["one", "\ufefftwo"]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_empty_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "a.txt", data)
    with pytest.raises(DataError, match=r"a\.txt: the file is empty"):
        list(read_lines(path))
    assert list(read_lines(path, allow_empty=True)) == []


def test_other_encodings_are_refused_with_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "gut\nschön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt:2: .*0xf6 at byte 4") as caught:
        list(read_lines(path))
    assert "iconv" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("hi\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"hi\n", mtime=0), "ending .gz"),
        (b"\x28\xb5\x2f\xfd\xff\xff", "ending .zst"),
    ],
)
def test_hint_says_what_the_file_looks_like(tmp_path: Path, data: bytes, word: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    assert word in str(caught.value)


@pytest.mark.parametrize("name", ["a.gz", "a.zst"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_archives_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    if name.endswith("zst"):
        pytest.importorskip("zstandard")
    text = "".join(f"line {i * 7919 % 1000}\n" for i in range(5000)).encode()
    path = write(tmp_path / name, text)
    path.write_bytes(path.read_bytes()[:-20] if damage == "cut" else b"hello, this is text")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_lines(path))


def test_zstd_files_of_several_frames(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    press = zstandard.ZstdCompressor().compress
    (tmp_path / "a.zst").write_bytes(press(b"one\ntw") + press(b"") + press(b"o\nthree\n"))
    assert list(read_lines(tmp_path / "a.zst")) == ["one", "two", "three"]


def test_large_zstd_file(tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    lines = [f"{i} {i * i}" for i in range(100_000)]
    path = write(tmp_path / "a.zst", "\n".join(lines).encode())
    assert list(read_lines(path)) == lines


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.de").touch()
    (tmp_path / "valid.en.gz").touch()
    with pytest.raises(DataError, match=r"trian\.de: there is no such file\n.*train\.de\?"):
        check_file(tmp_path / "trian.de")
    with pytest.raises(DataError, match=r"valid\.en\.gz\?"):
        check_file(tmp_path / "valid.en")
    with pytest.raises(DataError, match="like name"):
        check_file(tmp_path / "0815")
    with pytest.raises(DataError, match=f"exists is {tmp_path}$"):
        check_file(tmp_path / "no" / "where" / "train.de")
    with pytest.raises(DataError, match="a directory"):
        check_file(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt", b"x\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        list(read_lines(path))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = types.SimpleNamespace(buffer=io.BytesIO("\ufeffein\r\n\nzwei".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert list(read_lines("-", allow_empty=True)) == ["ein", "", "zwei"]
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"ok\n\xff\n")))
    with pytest.raises(DataError, match="<stdin>:2"):
        list(read_lines("-"))


def test_parallel_text_yields_fields_and_origin(tmp_path: Path) -> None:
    a = write(tmp_path / "a.en", b"one\n\nthree\n")
    b = write(tmp_path / "a.de.gz", b"eins\nzwei\ndrei")
    source = ParallelText({"source": a, "target": b})
    assert source.columns == ("source", "target")
    for _ in range(2):  # it starts again at each iteration
        examples = list(source)
        assert [e.fields for e in examples] == [("one", "eins"), ("", "zwei"), ("three", "drei")]
        assert examples[2].origin == f"{a}:3"


@pytest.mark.parametrize("counts", [(2, 5), (5, 2), (4, 3)])
def test_unequal_counts_are_both_said(tmp_path: Path, counts: tuple[int, int]) -> None:
    a, b = (write(tmp_path / f"a{n}", b"x\n" * n) for n in counts)
    with pytest.raises(DataError, match=rf"a{counts[0]} has {counts[0]}, .*a{counts[1]} has"):
        list(ParallelText({"source": a, "target": b}))


def test_single_column(tmp_path: Path) -> None:
    path = write(tmp_path / "mono.txt", b"a\nb\n")
    assert [e.fields for e in ParallelText({"text": path})] == [("a",), ("b",)]


ROWS = [("one", "eins"), ("", ""), ('say "hi"', "sag, ja")]


def make_table(path: Path) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        columns = {"en": [r[0] or None for r in ROWS], "de": [r[1] for r in ROWS], "n": [1, 2, 3]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path
    if ".csv" in path.name:
        text = 'n,de,en\n1,eins,one\n\n3,"sag, ja","say ""hi"""\n'
    elif ".tsv" in path.name:
        text = 'n\tde\ten\n1\teins\tone\n\n3\tsag, ja\tsay "hi"\n'
    else:
        records = [json.dumps({"n": 1, "de": d, "en": e}) if e else "" for e, d in ROWS]
        text = "\n".join(records) + "\n"
    return write(path, text.encode())


@pytest.mark.parametrize(
    "name", ["t.tsv", "t.csv", "t.jsonl", "t.tsv.gz", "t.csv.zst", "t.parquet"]
)
def test_tables(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow" if "parquet" in name else "json")
    path = make_table(tmp_path / name)
    data = {"file": name, "fields": {"source": "en", "target": "de"}}
    source = open_source(data, columns=["source", "target"], base=tmp_path)
    examples = list(source)
    assert [e.fields for e in examples] == ROWS
    first = 1 if name.endswith(("jsonl", "parquet")) else 2  # the header is a line
    assert [e.line for e in examples] == [first, first + 1, first + 2]
    assert examples[0].origin == f"{path}:{first}"
    with pytest.raises(DataError, match=r"no field 'dee'\n.*'de'\? known fields: .*en"):
        list(Table(path, {"source": "en", "target": "dee"}))


def test_columns_by_number_without_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", b"gj04\t1\t\tA sentence\ngj04\t0\t*\tAnother\n")
    examples = list(Table(path, {"text": 4, "label": 2}))
    assert [e.fields for e in examples] == [("A sentence", "1"), ("Another", "0")]
    with pytest.raises(DataError, match="known fields: 1, 2, 3, 4"):
        list(Table(path, {"text": 5}))


def test_csv_fields_may_hold_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b'a,b\n"x\ny",1\nz,2\n')
    examples = list(Table(path, {"a": "a"}))
    assert [(e.line, e.fields) for e in examples] == [(2, ("x\ny",)), (4, ("z",))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.tsv", "a\tb\nx\ty\nz\n", r"t\.tsv:3: the row has 1 fields, the first one has 2"),
        ("t.csv", 'a,b\nx,y\n"z\n', r"t\.csv:3: the row is not valid CSV"),
        ("t.jsonl", '{"a": "x", "b": "y"}\n{"a": \n', r"t\.jsonl:2: the line is not valid JSON"),
        ("t.jsonl", "[1, 2]\n", r"t\.jsonl:1: the line is not a JSON object"),
        ("t.jsonl", '{"a": "x", "b": ["y"]}\n', r"t\.jsonl:1: field 'b' holds a list"),
        ("t.jsonl", '{"a": "x", "b": true}\n', r"t\.jsonl:1: field 'b' holds a bool"),
        ("t.jsonl", '{"a": "x"}\n', r"t\.jsonl:1: there is no field 'b'"),
        ("t.jsonl", '{"a": "x", "b": "\\ud800"}\n', r"t\.jsonl:1: .*half a character"),
        ("t.tsv", "", r"t\.tsv: the file is empty"),
        ("t.parquet", "PAR", r"t\.parquet: the file is not valid Parquet"),
    ],
)
def test_damaged_tables(tmp_path: Path, name: str, text: str, message: str) -> None:
    pytest.importorskip("pyarrow" if "parquet" in name else "json")
    path = write(tmp_path / name, text.encode())
    with pytest.raises(DataError, match=message):
        list(Table(path, {"a": "a", "b": "b"}))


def test_values_that_are_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", b'{"a": 3, "b": null}\n')
    assert next(iter(Table(path, {"a": "a", "b": "b"}))).fields == ("3", "")


def test_unknown_kind_of_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"known endings: \.tsv"):
        Table(write(tmp_path / "t.xlsx", b"x"), {"a": "a"})


@pytest.mark.parametrize(("module", "name"), [("zstandard", "a.zst"), ("pyarrow", "a.parquet")])
def test_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / name
    path.write_bytes(b"x")
    reader = Table(path, {"a": "a"}) if module == "pyarrow" else read_lines(path)
    with pytest.raises(RegardError, match=r"pip install 'regard\[data\]'"):
        list(reader)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "a", "traget": "b"}, "'traget' .*\n.*did you mean 'target'"),
        ({"source": "a"}, "lacks the key 'target'"),
        ({"file": "a.tsv", "feilds": {}}, "did you mean 'fields'"),
        ({"file": "a.tsv", "fields": {"source": "en"}}, "lacks the key 'target'"),
    ],
)
def test_wrong_keys(data: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_source(data, columns=["source", "target"])
