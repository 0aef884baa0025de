"""Codecs: labels, sets and lists of them, numbers, pieces of words; and preparing by them."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard.data import PrepareSettings, Table, cache_key, prepare, train_tokenizer
from regard.data.codecs import (
    CodecError,
    LabelLists,
    Labels,
    LabelSets,
    Numbers,
    WordLengths,
    Words,
)
from regard.errors import DataError


def rows(*ids):
    return [np.array(one, dtype=np.uint32) for one in ids]


class TestLabels:
    def test_numbers_by_their_value_and_names_by_the_alphabet(self):
        assert Labels.learn(["10", "9", "-1", "0.5", "9"]).names == ("-1", "0.5", "9", "10")
        assert Labels.learn(["b", "2", "nan", "a", "inf"]).names == ("2", "a", "b", "inf", "nan")

    def test_ids_are_places(self):
        labels = Labels(["no", "yes"])
        assert labels.encode_batch(["yes", " no ", "yes"]) == [[1], [0], [1]]
        assert len(labels) == labels.vocab_size == 2
        assert labels.tensor(rows([1], [0])).tolist() == [1, 0]

    def test_one_text_is_one_label(self):
        assert Labels.learn(["very good\n", "very  good", "bad"]).names == ("bad", "very good")
        assert LabelLists.learn(["a\nb", "b\nc"]).names == ("a", "b", "c")
        assert LabelLists(["a", "b"]).encode_batch(["b\nb\na"]) == [[1, 1, 0]]

    @pytest.mark.parametrize("kind", [Labels, LabelLists, LabelSets])
    def test_an_unknown_one_names_its_place_and_the_nearest(self, kind):
        with pytest.raises(CodecError, match="'positiv' is not among the labels") as caught:
            kind(["negative", "positive"]).encode_batch(["negative", "positive", "positiv"])
        assert caught.value.number == 2
        assert caught.value.hint == "did you mean 'positive'? known: negative, positive"

    def test_sets(self):
        labels = LabelSets(["a", "b", "c"])
        assert labels.encode_batch(["c\na\nc", "", "b"]) == [[0, 2], [], [1]]
        wanted = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
        assert torch.equal(labels.tensor(rows([0, 2], [], [1])), wanted)
        assert labels.takes_empty
        assert not Labels(["a"]).takes_empty

    def test_what_changes_ids_changes_the_fingerprint(self):
        names = [Labels("ab"), Labels("ba"), LabelSets("ab"), LabelLists("ab"), Labels(["ab"])]
        assert len({one.fingerprint for one in names}) == 5
        assert Labels("ab").fingerprint == Labels("ab").fingerprint

    def test_files(self, tmp_path):
        path = tmp_path / "labels.json"
        Labels(["ä", "b c"]).save(path)
        assert json.loads(path.read_text()) == {"labels": ["ä", "b c"]}
        assert LabelSets.load(path).names == ("ä", "b c")
        path.write_text("{}")
        with pytest.raises(DataError, match="no file of labels") as caught:
            Labels.load(path)
        assert caught.value.where == str(path)


class TestNumbers:
    @given(st.floats(width=32, allow_nan=False, allow_infinity=False))
    def test_every_bit_comes_back(self, value):
        (ids,) = Numbers().encode_batch([repr(value)])
        (found,) = Numbers().tensor(rows(ids)).tolist()
        assert found == value
        assert math.copysign(1, found) == math.copysign(1, value)
        assert 0 <= ids[0] < Numbers.vocab_size

    @pytest.mark.parametrize("text", ["", "good", "nan", "inf", "1,5"])
    def test_what_is_none(self, text):
        with pytest.raises(CodecError, match="is no number") as caught:
            Numbers().encode_batch(["1", text])
        assert caught.value.number == 1


class TestWords:
    @pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "bytes", "chars", "words"])
    def test_pieces_are_those_of_the_text(self, kind):
        """Each word has the pieces that it has in a text, after a space."""
        texts = ["the small house stands", "a small river"] * 4
        size = {"bpe": 290, "unigram": 300, "wordpiece": 60}.get(kind)
        tokenizer = train_tokenizer(kind, texts, vocab_size=size)
        words = Words(tokenizer)
        (pieces,) = words.pieces(["small\nhouse\nriver"])
        together = [i for word in pieces for i in word]
        assert words.encode_batch(["small\nhouse\nriver"]) == [together]
        assert WordLengths(tokenizer).encode_batch(["small\nhouse\nriver"]) == [
            [len(word) for word in pieces]
        ]
        before = tokenizer.encode("the")
        assert tokenizer.encode("the small house river") == before + together

    def test_a_word_without_pieces_is_unknown(self):
        tokenizer = train_tokenizer("wordpiece", ["ab ba"], vocab_size=40)
        assert Words(tokenizer).pieces(["ab\n\u2028", ""])[0][1] == [tokenizer.unk_id]
        assert WordLengths(tokenizer).encode_batch(["ab\n\u2028"])[0][1] == 1

    def test_fingerprints(self):
        first, second = (train_tokenizer("words", [text]) for text in ("a b", "a c"))
        made = [Words(first), WordLengths(first), Words(second)]
        assert len({one.fingerprint for one in made}) == 3


class TestPreparing:
    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "a.tsv").write_text("text\tlabel\na b\tx\n\ty\nb\t\na\ty\n")
        return Table(tmp_path / "a.tsv", {"text": "text", "label": "label"})

    def made(self, tmp_path, source, codecs, **more):
        settings = PrepareSettings(None, "keep")
        return prepare(source, codecs, cache=tmp_path / "cache", settings=settings, **more)

    def test_a_column_by_its_codec(self, tmp_path, source):
        codecs = {"text": train_tokenizer("words", ["a b"]), "label": Labels("xy")}
        data = self.made(tmp_path, source, codecs)
        assert [data.ids("label", n).tolist() for n in range(len(data))] == [[0], [1]]
        assert [data.origin(n).rpartition(":")[2] for n in range(len(data))] == ["2", "5"]
        assert data.dropped == {"empty": 2}
        sets = self.made(tmp_path, source, {**codecs, "label": LabelSets("xy")})
        assert [sets.ids("label", n).tolist() for n in range(len(sets))] == [[0], [], [1]]

    def test_columns_of_one_field(self, tmp_path, source):
        codecs = {
            "one": train_tokenizer("words", ["a b"]),
            "other": train_tokenizer("chars", ["ab "]),
        }
        fields = {"one": "text", "other": "text"}
        data = self.made(tmp_path, source, codecs, fields=fields)
        assert data.columns == ("one", "other")
        assert data.lengths("one").tolist() == [2, 1, 1]
        assert data.lengths("other").tolist() == [3, 1, 1]
        keys = {cache_key(source, codecs, PrepareSettings(), given) for given in (None, fields)}
        assert len(keys) == 2

    def test_an_error_of_a_codec_has_its_line(self, tmp_path, source):
        codecs = {"text": train_tokenizer("words", ["a b"]), "label": Labels("x")}
        with pytest.raises(DataError, match="'y' is not among the labels") as caught:
            self.made(tmp_path, source, codecs)
        assert caught.value.where == f"{tmp_path / 'a.tsv'}:5"
        assert caught.value.hint == "known: x"
        assert not list((tmp_path / "cache").glob("*/"))
