"""Tagged words: CoNLL files, tables of lists, and what is wrong with them."""

import gzip
import json

import pytest

from regard.data import Table
from regard.data.readers.tagged import Agreeing, Conll
from regard.errors import DataError, RecipeError

FOUR = """-DOCSTART- -X- -X- O

EU NNP I-NP B-ORG
rejects VBZ I-VP O

\t
Peter NNP I-NP B-PER
"""


@pytest.fixture
def write(tmp_path):
    def make(text, name="a.conll"):
        path = tmp_path / name
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return make


def read(source):
    return [(*(field.split("\n") for field in one.fields), one.line) for one in source]


@pytest.mark.parametrize("name", ["a.conll", "a.txt.gz"])
def test_first_and_last_column(write, name):
    wanted = [(["EU", "rejects"], ["B-ORG", "O"], 3), (["Peter"], ["B-PER"], 7)]
    assert read(Conll(write(FOUR, name))) == wanted


def test_columns_by_number(write):
    path = write(FOUR)
    source = Conll(path, {"words": 1, "tags": 2})
    assert read(source)[0][1] == ["NNP", "VBZ"]
    assert read(Conll(path, {"tags": 1, "words": 4}))[1][:2] == (["B-PER"], ["Peter"])
    assert source.columns == ("words", "tags")
    assert source.identity != Conll(path).identity


def test_tabs_and_other_white_space(write):
    """A no-break space is part of its word; the end of the file ends a sentence."""
    assert read(Conll(write("a\u00a0b\tO\r\nc \t O"))) == [(["a\u00a0b", "c"], ["O", "O"], 1)]


@pytest.mark.parametrize(
    ("text", "fields", "line", "words"),
    [
        ("a O\nb\n", None, 2, r"the line has 1 column\(s\), at least 2"),
        ("a O\n", {"words": 1, "tags": 3}, 1, r"the line has 2 column\(s\), at least 3"),
    ],
)
def test_a_line_with_too_few_columns(write, text, fields, line, words):
    with pytest.raises(DataError, match=words) as caught:
        list(Conll(write(text), fields))
    assert caught.value.where.endswith(f"a.conll:{line}")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"words": "token", "tags": 2}, "words needs a number from 1, not 'token'"),
        ({"words": 0, "tags": 2}, "words needs a number from 1, not 0"),
        ({"words": 1, "tags": -1}, "tags needs a number from 1"),
        ({"words": 1}, "lacks the key 'tags'"),
        ({"words": 1, "tag": 2}, "unknown key 'tag'"),
    ],
)
def test_columns_that_cannot_be(write, fields, words):
    with pytest.raises(RecipeError, match=words):
        Conll(write(FOUR), fields)


def test_an_empty_file(write):
    with pytest.raises(DataError, match="the file is empty"):
        list(Conll(write("")))
    assert read(Conll(write("\n\n"))) == []


FIELDS = {"words": "words", "tags": "tags"}


class TestLists:
    def table(self, path, lists=("words", "tags")):
        return Table(path, FIELDS, lists=lists)

    def test_json_lines(self, write):
        lines = [
            {"words": ["New York", "is", None], "tags": ["B-x", "O", 7]},
            {"words": [], "tags": []},
        ]
        path = write("\n".join(map(json.dumps, lines)), "a.jsonl")
        found = [one.fields for one in self.table(path)]
        assert found == [("New York\nis\n", "B-x\nO\n7"), ("", "")]

    def test_parquet(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pyarrow.table({"words": [["a", "b"]], "tags": [["O", "B-x"]]})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert [one.fields for one in self.table(tmp_path / "a.parquet")] == [("a\nb", "O\nB-x")]

    @pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
    def test_words_between_spaces(self, write, name):
        path = write(
            "words\ttags\na  b\tO B-x\n".replace("\t", "," if name == "a.csv" else "\t"), name
        )
        assert [one.fields for one in self.table(path)] == [("a\nb", "O\nB-x")]

    def test_an_entry_is_one_line(self, write):
        path = write(json.dumps({"words": ["a\nb", "c\u2028d"], "tags": ["O", "O"]}), "a.jsonl")
        assert next(iter(self.table(path))).fields[0] == "a b\nc d"

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ({"words": 3, "tags": []}, "field 'words' holds no list"),
            ({"words": ["a"], "tags": [["O"]]}, "field 'tags' holds a list, not a text"),
            ({"words": ["a"]}, "there is no field 'tags'"),
        ],
    )
    def test_what_is_no_list(self, write, line, words):
        with pytest.raises(DataError, match=words) as caught:
            list(self.table(write(json.dumps(line), "a.jsonl")))
        assert caught.value.where.endswith("a.jsonl:1")

    def test_a_list_where_a_text_is_wanted(self, write):
        path = write(json.dumps({"words": ["a"], "tags": ["O"]}), "a.jsonl")
        with pytest.raises(DataError, match="field 'tags' holds a list, not a text"):
            list(self.table(path, lists=("words",)))

    def test_lists_are_part_of_what_is_read(self, write):
        path = write("words\ttags\na\tO\n", "a.tsv")
        made = [self.table(path, lists) for lists in (("words", "tags"), ("words",), ())]
        assert len({str(one.identity) for one in made}) == 3

    def test_each_word_needs_its_tag(self, write):
        lines = [{"words": ["a"], "tags": ["O"]}, {"words": ["a", "b"], "tags": ["O"]}]
        source = Agreeing(self.table(write("\n".join(map(json.dumps, lines)), "a.jsonl")))
        with pytest.raises(DataError, match="every word needs its tag: 2 words, 1 tags") as caught:
            list(source)
        assert caught.value.where.endswith("a.jsonl:2")
