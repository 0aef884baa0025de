"""Where pieces stand in their text, for every kind of tokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard import registry
from regard.data.tokenizers import train_tokenizer
from regard.data.tokenizers.imported import imported

TEXTS = ["the small house stands near the old river", "don't stop (really) 1234 é ß"] * 3
SIZES = {"bpe": 300, "unigram": 320, "wordpiece": 80}
KINDS = registry.names("tokenizers")
LETTERS = "abdehilmnorstuv ABß  é1(\t\n日😀İ'"


def learned(kind, **more):
    if kind == "imported":
        return imported(learned("bpe", **more).definition, {"end": 2, "unk": 3})
    return train_tokenizer(kind, TEXTS, vocab_size=SIZES.get(kind), **more)


@pytest.fixture(scope="module")
def tokenizers():
    return {
        (kind, lower): learned(kind, lowercase=lower) for kind in KINDS for lower in (False, True)
    }


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(LETTERS, max_size=20))
def test_every_piece_has_its_place(tokenizers, kind, lower, text):
    tokenizer = tokenizers[kind, lower]
    spans = tokenizer.offsets(text)
    assert len(spans) == len(tokenizer.encode(text))
    covered = set()
    before = 0
    for start, end in spans:
        assert before <= start <= end <= len(text)
        assert text[start:end] == text[start:end].strip()
        covered.update(range(start, end))
        before = start
    assert covered >= {n for n, letter in enumerate(text) if not letter.isspace()}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("bpe", ["the", "small", "river"]),
        ("unigram", ["the", "small", "river"]),
        ("wordpiece", ["the", "small", "river"]),
        ("words", ["the", "small", "river"]),
        ("chars", [*"the", "", *"small", "", *"river"]),
        ("bytes", [*"the", "", *"small", "", *"river"]),
    ],
)
def test_they_spell_what_was_encoded(tokenizers, kind, wanted):
    text = "the small river"
    found = [text[start:end] for start, end in tokenizers[kind, False].offsets(text)]
    assert "".join(found) == "thesmallriver"
    if kind in ("words", "chars", "bytes"):
        assert found == wanted
    for word in ("the", "small", "river"):  # no piece reaches over two words
        assert any(found[a:b] and "".join(found[a:b]) == word for a in range(20) for b in range(20))


def test_bytes_of_one_letter_share_its_place(tokenizers):
    assert tokenizers["bytes", False].offsets("aé") == [(0, 1), (1, 2), (1, 2)]
