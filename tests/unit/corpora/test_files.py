"""Writing corpora: the files, their reuse, and what may go wrong."""

import json
import os

import pytest

from regard import corpora
from regard.corpora import corpus
from regard.errors import DataError, RegardError

KEYS = [f"{split}.{side}" for split in ("train", "valid", "test") for side in ("source", "target")]


@pytest.fixture
def written(tmp_path):
    return corpora.write("demo", tmp_path / "demo", seed=3, size=1000)


def test_files_hold_the_corpus(written):
    made = corpora.make("demo", seed=3, size=1000)
    assert list(written) == KEYS
    assert written["train.source"].name == "train.en"
    assert written["test.target"].name == "test.de"
    for name, pairs in made.splits().items():
        for side, key in enumerate(("source", "target")):
            content = written[f"{name}.{key}"].read_bytes().decode()
            assert content == "".join(pair[side] + "\n" for pair in pairs)
    leftovers = [path.name for path in written["train.source"].parent.glob(".*")]
    assert leftovers == []


def test_whole_files_are_used_again(written, monkeypatch):
    directory = written["train.source"].parent
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    monkeypatch.setattr(corpus, "Sampler", None)
    assert corpora.write("demo", directory, seed=3, size=1000) == written
    assert before == {path: path.stat().st_mtime_ns for path in directory.iterdir()}


@pytest.mark.parametrize("harm", ["cut", "missing", "changed"])
def test_harmed_files_are_made_again(written, harm):
    path = written["valid.target"]
    whole = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:100] if harm == "cut" else whole.replace(b"der", b"die", 1))
    corpora.write("demo", path.parent, seed=3, size=1000)
    assert path.read_bytes() == whole


def test_another_seed_or_size_replaces_them(written):
    path = written["train.source"]
    before = path.read_bytes()
    corpora.write("demo", path.parent, seed=4, size=1000)
    assert path.read_bytes() != before
    corpora.write("demo", path.parent, seed=3, size=1100)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1100
    corpora.write("demo", path.parent, seed=3, size=1000)
    assert path.read_bytes() == before


def test_somebody_elses_files_are_left_alone(tmp_path):
    mine = tmp_path / "train.en"
    mine.write_text("my own sentence\n")
    with pytest.raises(DataError, match=r"train\.en: the file exists"):
        corpora.write("demo", tmp_path, size=1000)
    assert mine.read_text() == "my own sentence\n"
    assert [path.name for path in tmp_path.iterdir()] == ["train.en"]


def test_an_unreadable_manifest_is_no_licence_to_overwrite(written):
    directory = written["train.source"].parent
    (directory / "corpus.json").write_text("{")
    with pytest.raises(DataError, match="the file exists"):
        corpora.write("demo", directory, seed=3, size=1000)


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(DataError, match="directory"):
        corpora.write("copy-digits", tmp_path / "demo", size=1000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be"):
        corpora.write("copy-digits", tmp_path / "deeper", size=1000)


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        corpora.write("copy-digits", tmp_path, size=1000)
    assert list(tmp_path.iterdir()) == []


def test_manifest_says_what_it_is(written):
    manifest = json.loads((written["train.source"].parent / "corpus.json").read_text())
    assert manifest["name"] == "demo"
    assert (manifest["seed"], manifest["size"]) == (3, 1000)
    assert sorted(manifest["sha256"]) == sorted(path.name for path in written.values())


def test_names_and_unknown_names(tmp_path):
    assert corpora.names() == ["demo", "copy-digits"]
    for call in (corpora.make, corpora.showcase, lambda name: corpora.write(name, tmp_path)):
        with pytest.raises(RegardError, match="did you mean 'copy-digits'"):
            call("copy-digit")


def test_digits_have_neutral_suffixes(tmp_path):
    paths = corpora.write("copy-digits", str(tmp_path), size=1000)
    assert paths["train.source"].name == "train.source"
    assert paths["train.source"].read_bytes() == paths["train.target"].read_bytes()
    assert corpora.showcase("copy-digits")[0].source == corpora.showcase("copy-digits")[0].target
