"""Tagging: words and their places, long sentences in parts, alone as in any batch."""

import pytest
import torch

from regard.data.codecs import Words
from regard.errors import InputError
from regard.tasks.tagger import Span, Tagged, _tagged, _words
from regard.tasks.tagging import _parts

from .encoders import TEXTS, opened

LABELS = ["B-a", "B-b", "I-a", "I-b", "O"]


@pytest.fixture
def tagger(tmp_path):
    task, model = opened(tmp_path, "tagging", LABELS)
    return task.predictor(model)


def test_one_in_one_out(tagger):
    found = tagger.tag("The small house, near the river.")
    assert found.words == ("The", "small", "house", ",", "near", "the", "river", ".")
    assert len(found.tags) == 8
    assert set(found.tags) <= set(LABELS)
    assert tagger.tag(["The small house, near the river."]) == [found]
    assert tagger.tag([list(found.words)])[0].tags == found.tags
    assert tagger.tag([]) == []
    assert tagger.tag("") == Tagged((), (), ())
    assert tagger.tag([[], ["house"]])[0] == Tagged((), (), ())
    assert repr(tagger).startswith("<Tagger: BERT, ")


def test_a_tag_is_read_at_the_first_piece(tagger):
    words = ["the", "smallriver", "house"]
    (pieces,) = Words(tagger.tokenizer).pieces(["\n".join(words)])
    assert len(pieces[1]) > 1
    ids = torch.tensor([[1, *(i for word in pieces for i in word), 2]])
    best = tagger.model.eval()(ids)[0].argmax(dim=-1)
    places = [1, 2, 2 + len(pieces[1])]
    assert tagger.tag([words])[0].tags == tuple(LABELS[int(best[n])] for n in places)


def test_alone_as_in_any_batch(tagger):
    texts = [*TEXTS, "house", "", "river " * 40, "a green river stands " * 9]
    together = tagger.tag(texts * 3)
    assert together == [tagger.tag(text) for text in texts] * 3
    assert [len(one.words) for one in together[:6]] == [8, 4, 1, 0, 40, 36]


def test_long_sentences_are_tagged_in_parts(tagger):
    """Each part as if it were a sentence: 14 tokens and two special ones."""
    whole = tagger.tag([["river"] * 30])[0].tags
    parts = [tagger.tag([["river"] * n])[0].tags for n in (14, 14, 2)]
    assert whole == parts[0] + parts[1] + parts[2]


def test_parts():
    words = [[1], [2, 2], [3], [4, 4, 4, 4, 4], [5], [6, 6]]
    assert _parts(words, 3) == [[[1], [2, 2]], [[3]], [[4, 4, 4]], [[5], [6, 6]]]
    assert _parts(words, 99) == [words]
    assert _parts([], 3) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Maria's well-known @friend said: 3.5 %!", "Maria's|well-known|@friend|said|:|3.5|%|!"),
        ("#win U.S.A. (ok)", "#win|U.S.A|.|(|ok|)"),
        ("日本 — é", "日本|—|é"),
        (" \t", ""),
    ],
)
def test_words_of_a_text(text, words):
    found, places = _words(text)
    assert found == [word for word in words.split("|") if word]
    assert [text[start:end] for start, end in places] == found


def test_spans_have_places():
    text = "Anna  Jones, of Rome"
    words, places = _words(text)
    tags = ["B-per", "I-per", "O", "O", "B-loc"]
    found = _tagged(text, words, places, tags)
    assert found.spans == (Span("per", "Anna  Jones", 0, 11), Span("loc", "Rome", 16, 20))
    assert [text[span.start : span.end] for span in found.spans] == ["Anna  Jones", "Rome"]
    assert str(found) == "Anna/B-per Jones/I-per , of Rome/B-loc"
    listed = _tagged(words, words, None, tags)
    assert listed.spans == (Span("per", "Anna Jones", 0, 2), Span("loc", "Rome", 4, 5))


@pytest.mark.parametrize("texts", [3, [3], [["a", 3]], [None]])
def test_what_is_no_text(tagger, texts):
    with pytest.raises(InputError, match="a text is wanted, or a list of words"):
        tagger.tag(texts)


def test_pictures(tagger):
    found = tagger.look_inputs("the smallriver")
    tags = tagger.tag("the smallriver").tags
    assert found["target"] == " ".join(tags)
    held = found["labels"][found["labels"] >= 0].tolist()
    assert [LABELS[n] for n in held] == list(tags)
    assert found["labels"][0, 1] >= 0
    assert found["labels"][0, 2] >= 0
    for text, target, words in [
        ("", None, "a text is wanted"),
        (("a", "b"), None, "a text is wanted"),
        ("river " * 20, None, "the text has 20 tokens, the model reads 14"),
        ("river", "O", "takes no target"),
    ]:
        with pytest.raises(InputError, match=words):
            tagger.look_inputs(text, target)


def test_an_empty_row_is_no_wrong_tag(tmp_path, tagger):
    rows = ['{"words": ["a", "house"], "tags": ["O", "B-a"]}', "", '{"words": [], "tags": []}']
    (tmp_path / "test.jsonl").write_text("\n".join(rows) + "\n")
    examples = tagger._task.read({"file": str(tmp_path / "test.jsonl")})
    assert list(examples.sources) == [["a", "house"]]
