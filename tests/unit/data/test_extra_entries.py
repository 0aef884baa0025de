"""Extra special entries of tokenizers: the last ids, skipped in text, never made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.tokenizers import Tokenizer, train_tokenizer
from regard.errors import RecipeError

KINDS = ("bpe", "unigram", "wordpiece", "bytes", "chars", "words")
LOSSLESS = ("bpe", "unigram", "bytes")
TEXTS = [
    "the small house stands near the old river",
    "a small red house and a large green house",
    "the river runs near the large old mill, and the mill runs too.",
    "das kleine Haus steht nahe am alten Fluß; die Mühle läuft.",
    "don't stop (really) 1234 1234 5678",
] * 3
EXTRA = ("<mask>", "<|user|>")
MARKED = ["<mask> is x<mask><|user|> and <|user|>: <|user|>", "<mask> <|user|> the mask"] * 20


@pytest.mark.parametrize("kind", KINDS)
def test_extra_special_entries(kind: str, tmp_path: Path) -> None:
    sizes = {"bpe": 330, "unigram": 340, "wordpiece": 130, "bytes": 262, "chars": 40, "words": 20}
    texts = [*TEXTS, *MARKED]
    tokenizer = train_tokenizer(kind, texts, vocab_size=sizes[kind], extra=EXTRA)
    size = tokenizer.vocab_size
    assert size <= sizes[kind] if kind == "unigram" else size == sizes[kind]
    assert tokenizer.vocabulary[-2:] == tokenizer.extra == EXTRA
    assert len(set(tokenizer.vocabulary)) == tokenizer.vocab_size
    ids = [tokenizer.id_of(entry) for entry in EXTRA]
    assert ids == [size - 2, size - 1]
    assert tokenizer.mask_id == ids[0]
    for text in MARKED[:2]:
        assert not {0, 1, 2, *ids} & set(tokenizer.encode(text))
        if kind in LOSSLESS:
            assert tokenizer.decode(tokenizer.encode(text)) == text
    plain = tokenizer.encode("the house")
    assert tokenizer.decode([size - 1, *plain, size - 2]) == tokenizer.decode(plain)
    assert tokenizer.tokens(range(size))[-2:] == list(EXTRA)
    assert train_tokenizer(kind, texts, vocab_size=sizes[kind], extra=EXTRA).to_json() == (
        tokenizer.to_json()
    )
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (again.extra, again.mask_id) == (EXTRA, tokenizer.mask_id)
    assert again.encode_batch(MARKED) == tokenizer.encode_batch(MARKED)


@pytest.mark.parametrize("kind", KINDS)
@given(parts=st.lists(st.sampled_from(["<mask>", "<", "mask>", "<|user|>", "|user|>", " ", "a"])))
@settings(max_examples=40, deadline=None)
def test_text_never_makes_an_extra_entry(kind: str, parts: list[str]) -> None:
    size = {"bpe": 330, "unigram": 350, "wordpiece": 130}.get(kind)
    if kind not in _MARKED:
        _MARKED[kind] = train_tokenizer(kind, [*TEXTS, *MARKED], vocab_size=size, extra=EXTRA)
    assert all(0 < i < _MARKED[kind].vocab_size - 2 for i in _MARKED[kind].encode("".join(parts)))


_MARKED: dict[str, Tokenizer] = {}


def test_files_without_extra_entries_open(tmp_path: Path) -> None:
    definition = json.loads(train_tokenizer("words", TEXTS).to_json())
    del definition["model"]["regard"]["extra"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(definition))
    old = Tokenizer.load(path)
    assert (old.extra, old.mask_id) == ((), None)
    assert old.decode(old.encode(TEXTS[0])) == TEXTS[0]
    # A word that is spelled like the mask is no special entry.
    assert train_tokenizer("words", ["a <mask>"]).mask_id is None


@pytest.mark.parametrize(
    "entry", ["mask", "<>", "<|>", "<a b>", "<s>", "<0x41>", "<a<b>", "<ä>", "<a>\n"]
)
def test_what_cannot_be_an_extra_entry(entry: str) -> None:
    with pytest.raises(RecipeError, match="special entry"):
        train_tokenizer("chars", TEXTS, extra=(entry,))
    with pytest.raises(RecipeError, match="one twice"):
        train_tokenizer("chars", TEXTS, extra=("<a>", "<a>"))
