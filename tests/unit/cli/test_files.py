"""Inputs and outputs of the verbs: nothing is written over, nothing is left half-written."""

import io
import sys

import pytest

from regard.cli.files import opened_output, refuse_existing, texts_from
from regard.cli.output import write_new
from regard.errors import DataError, InputError


class TestTexts:
    def test_words_come_first(self):
        assert list(texts_from(["a b", "c"], None)) == ["a b", "c"]

    def test_a_file(self, tmp_path):
        (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\r\nb\xe2\x80\xa8c\n\nd")
        assert list(texts_from(None, str(tmp_path / "x"))) == ["a", "b\u2028c", "", "d"]
        assert len(list(texts_from([], str(tmp_path / "x")))) == 4

    def test_standard_input(self, monkeypatch):
        for name in (None, "-"):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\ny\n")))
            assert list(texts_from(None, name)) == ["x", "y"]

    def test_both_is_one_too_many(self):
        with pytest.raises(InputError, match="not both"):
            texts_from(["a"], "file")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            list(texts_from(None, str(tmp_path / "x")))


class TestOutputs:
    def test_a_file_has_its_name_when_it_is_whole(self, tmp_path):
        path = tmp_path / "out"
        with opened_output(path) as write:
            write("one")
            assert not path.exists()
            write("zwei ü")
        assert path.read_bytes() == "one\nzwei ü\n".encode()
        assert list(tmp_path.iterdir()) == [path]

    def test_an_empty_file_is_a_file(self, tmp_path):
        with opened_output(tmp_path / "out"):
            pass
        assert (tmp_path / "out").read_bytes() == b""

    def test_an_error_leaves_what_was_written(self, tmp_path, capsys):
        def fail():
            with opened_output(tmp_path / "out") as write:
                write("one")
                raise ValueError

        with pytest.raises(ValueError):
            fail()
        assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
        assert (tmp_path / "out.partial").read_text() == "one\n"
        assert "out.partial" in capsys.readouterr().err

    def test_an_error_before_the_first_line_leaves_nothing(self, tmp_path, capsys):
        with pytest.raises(KeyboardInterrupt), opened_output(tmp_path / "out"):
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []
        assert capsys.readouterr().err == ""

    def test_standard_output(self, capsys):
        with opened_output(None) as write:
            write("one")
        assert capsys.readouterr().out == "one\n"

    def test_what_is_there_stays(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(InputError, match="exists already"), opened_output(tmp_path / "out"):
            pytest.fail("not reached")
        with pytest.raises(InputError, match="exists already"):
            write_new(tmp_path / "out", "text")
        assert (tmp_path / "out").read_text() == "mine"
        assert list(tmp_path.iterdir()) == [tmp_path / "out"]

    def test_what_came_meanwhile_stays_too(self, tmp_path):
        def race():
            with opened_output(tmp_path / "out") as write:
                write("ours")
                (tmp_path / "out").write_text("another's")

        with pytest.raises(InputError):
            race()
        assert (tmp_path / "out").read_text() == "another's"
        assert (tmp_path / "out.partial").read_text() == "ours\n"

    def test_a_missing_directory(self, tmp_path):
        with pytest.raises(InputError, match="no such directory"):
            refuse_existing(tmp_path / "no" / "out")
        refuse_existing(None)
        refuse_existing(tmp_path / "new")

    def test_write_new(self, tmp_path):
        write_new(tmp_path / "new", "text ü")
        assert (tmp_path / "new").read_text(encoding="utf-8") == "text ü"
        assert list(tmp_path.iterdir()) == [tmp_path / "new"]
