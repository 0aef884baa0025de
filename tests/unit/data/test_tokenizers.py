"""Tokenizers: what comes back, what never happens, the same file every time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard import registry
from regard.data.readers import read_lines
from regard.data.tokenizers import SPECIALS, Tokenizer, TokenizerSettings, train_tokenizer
from regard.data.tokenizers.imported import imported
from regard.data.tokenizers.library import spelled
from regard.data.tokenizers.merges import learn_merges
from regard.data.tokenizers.unigram import word_pattern
from regard.errors import DataError, InputError, RecipeError, RegardError

KINDS = ("bpe", "unigram", "wordpiece", "bytes", "chars", "words")
LOSSLESS = ("bpe", "unigram", "bytes")
WORDS = [
    "the small house stands near the old river",
    "a small red house and a large green house",
    "the river runs near the large old mill, and the mill runs too.",
    "das kleine Haus steht nahe am alten Fluß; die Mühle läuft.",
    "don't stop (really) 1234 1234 5678",
]
TEXTS = WORDS * 3
SIZES = {"bpe": 320, "unigram": 340, "wordpiece": 120}
STRANGE = [
    "",
    " ",
    "  two  spaces ",
    "tab\tline\nend\r",
    "東京 🦊 nul\x00 \u2028 \x85",
    "</s> <s><pad> <unk> <0x41> <",
    "ÄÖÜ ß ﬁ e\u0301",
    "##a @@ #",
]
DATA = Path(__file__).parents[4] / "shared" / "data" / "multi30k"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="Multi30k is not here")


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(kind, TEXTS, vocab_size=SIZES.get(kind)) for kind in KINDS}


def test_kinds_are_registered() -> None:
    assert {*KINDS, "imported"} == set(registry.names("tokenizers"))


def test_an_imported_one_is_not_learned() -> None:
    with pytest.raises(RecipeError, match="comes with its weights"):
        train_tokenizer("imported", TEXTS)


def test_an_imported_one_without_a_vocabulary(tmp_path: Path) -> None:
    imported({}, {"end": 3, "mask": 5}, vocab_size=9).save(tmp_path / "t.json")
    held = Tokenizer.load(tmp_path / "t.json")
    assert (held.vocab_size, held.end_id, held.start_id, held.pad_id, held.unk_id) == (
        9,
        3,
        3,
        3,
        -1,
    )
    assert held.tokens([1, 8]) == ["<1>", "<8>"]
    for call in (lambda: held.encode("a"), lambda: held.decode([1])):
        with pytest.raises(InputError, match="imported without a tokenizer"):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_specials_stand_first(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    assert tokenizer.vocabulary[:4] == SPECIALS
    assert (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.unk_id) == (
        0,
        1,
        2,
        3,
    )
    assert len(set(tokenizer.vocabulary)) == tokenizer.vocab_size
    assert tokenizer.vocab_size <= SIZES.get(kind, 400)


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_training_comes_back(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    for text in WORDS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([1, *ids, 2, 0, 0]) == text
        assert min(ids) > 3
    assert tokenizer.decode_batch([tokenizer.encode(t) for t in WORDS]) == WORDS


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_comes_back(trained: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = trained[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back(kind: str, text: str) -> None:
    tokenizer = cached(kind)
    expected = text.replace("▁", " ") if kind == "unigram" else text
    assert tokenizer.decode(tokenizer.encode(text)) == expected


@pytest.mark.parametrize("kind", KINDS)
@given(parts=st.lists(st.sampled_from(["<s>", "</s>", "<", "pad>", "<pad>", "<0x41>", " ", "a"])))
@settings(max_examples=40, deadline=None)
def test_text_never_makes_a_special_token(kind: str, parts: list[str]) -> None:
    assert not {0, 1, 2} & set(cached(kind).encode("".join(parts)))


def test_text_that_spells_specials_is_learned_as_text() -> None:
    texts = ["<s> a <pad> b </s> <unk> <0x41>"] * 20
    for kind in KINDS:
        size = {"bpe": 400, "unigram": 400, "wordpiece": 100}.get(kind)
        tokenizer = train_tokenizer(kind, texts, vocab_size=size)
        assert not {0, 1, 2} & set(tokenizer.encode(texts[0]))
        assert len(set(tokenizer.vocabulary)) == tokenizer.vocab_size


@pytest.mark.parametrize("kind", KINDS)
@given(
    texts=st.lists(
        st.text(max_size=30) | st.text(alphabet=" aÄbΣı'sn.,1▁\u00a0\u0300#<>", max_size=30),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_batch_equals_single(kind: str, texts: list[str]) -> None:
    tokenizer = cached(kind)
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_batches_of_real_kind_equal_single(trained: dict[str, Tokenizer]) -> None:
    texts = [*WORDS, *STRANGE, *(word for text in WORDS for word in text.split())]
    for tokenizer in trained.values():
        for _ in range(2):  # the words are known the second time
            assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
        rows = tokenizer.encode_batch(texts[:1] * 2)
        rows[0].append(7)  # rows are the caller's: changing one changes nothing else
        assert rows[1] == tokenizer.encode(texts[0])
        rows = tokenizer.encode_batch(["the"])
        rows[0].append(7)
        assert tokenizer.encode_batch(["the"])[0] == tokenizer.encode("the")


def test_known_words_are_forgotten_without_harm(
    trained: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regard.data.tokenizers.library._MOST_WORDS", 4)
    texts = [*WORDS, *STRANGE, *WORDS[::-1]]
    for kind in ("bpe", "unigram", "wordpiece"):
        tokenizer = load_tokenizer_of(trained[kind])
        for text in texts:
            assert tokenizer.encode_batch([text, texts[0]]) == [
                tokenizer.encode(text),
                tokenizer.encode(texts[0]),
            ]


def load_tokenizer_of(tokenizer: Tokenizer) -> Tokenizer:
    """Another one of the same definition, that knows no word yet."""
    return type(tokenizer)(tokenizer.definition)


_CACHE: dict[str, Tokenizer] = {}


def cached(kind: str) -> Tokenizer:
    if kind not in _CACHE:
        _CACHE[kind] = train_tokenizer(kind, TEXTS, vocab_size=SIZES.get(kind))
    return _CACHE[kind]


def test_unseen(trained: dict[str, Tokenizer]) -> None:
    assert trained["chars"].decode(trained["chars"].encode("x東")) == "<unk><unk>"
    assert trained["words"].decode(trained["words"].encode("the  qux house")) == "the <unk> house"
    assert trained["wordpiece"].encode("東") == [3]


def test_white_space_of_word_kinds(trained: dict[str, Tokenizer]) -> None:
    for kind in ("words", "wordpiece"):
        assert trained[kind].decode(trained[kind].encode("  the \t house ")) == "the house"


@pytest.mark.parametrize("kind", KINDS)
def test_lowercase(kind: str) -> None:
    text = "ΟΔΟΣ Grün ΣΑΣ İ"
    tokenizer = train_tokenizer(kind, [text, *WORDS], lowercase=True, vocab_size=SIZES.get(kind))
    assert tokenizer.lowercase
    ids = tokenizer.encode(text)
    assert 3 not in ids
    assert tokenizer.decode(ids) == "".join(c.lower() for c in text)
    assert tokenizer.encode(WORDS[3].upper().replace("SS", "ß")) == tokenizer.encode(WORDS[3])


@pytest.mark.parametrize("kind", KINDS)
def test_file(trained: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    tokenizer = trained[kind]
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    again = Tokenizer.load(path)
    assert type(again) is type(tokenizer)
    assert again.to_json() == tokenizer.to_json() == path.read_text(encoding="utf-8")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_library_opens_the_file(trained: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    import tokenizers

    path = tmp_path / "tokenizer.json"
    trained[kind].save(path)
    library = tokenizers.Tokenizer.from_file(str(path))
    for text in [*WORDS, *STRANGE[:5]]:
        ids = trained[kind].encode(text)
        assert library.encode(text).ids == ids
        if text in WORDS:
            assert library.decode(ids) == text
    assert library.get_vocab_size() == trained[kind].vocab_size


def test_labels(trained: dict[str, Tokenizer]) -> None:
    for kind in KINDS:
        tokenizer = trained[kind]
        labels = tokenizer.tokens(range(tokenizer.vocab_size))
        assert labels[:4] == list(SPECIALS)
        assert all(label and label.isprintable() for label in labels)
    bpe = trained["bpe"]
    assert bpe.tokens(bpe.encode("the"))[0].startswith("▁")
    assert trained["bpe"].tokens(bpe.encode("東")) == ["▁", "<0xE6>", "<0x9D>", "<0xB1>"]
    assert trained["bytes"].tokens([0x41 + 4, 0x20 + 4, 0xFF + 4]) == ["A", "▁", "<0xFF>"]


def test_ids_of_entries(trained: dict[str, Tokenizer]) -> None:
    words = trained["words"]
    index = words.id_of("house")
    assert index is not None
    assert words.vocabulary[index] == "house"
    assert words.id_of("qux") is None


def test_invalid_bytes_are_replaced_in_decoding(trained: dict[str, Tokenizer]) -> None:
    assert trained["bytes"].decode([0xE6 + 4, 3, 0x41 + 4]) == "\ufffd<unk>A"


def test_continuation() -> None:
    texts = ["ein anst@@ arr@@ t . ", "bau@@ m"]
    tokenizer = train_tokenizer("words", texts, continuation="@@")
    assert tokenizer.decode(tokenizer.encode(texts[0])) == "ein anstarrt ."
    assert tokenizer.decode(tokenizer.encode("ein bau@@")) == "ein bau"
    plain = train_tokenizer("words", texts)
    assert plain.decode(plain.encode(texts[1])) == "bau@@ m"
    with pytest.raises(RecipeError, match="continuation"):
        train_tokenizer("bpe", texts, continuation="@@")


def test_words_are_ordered_by_count_then_spelling() -> None:
    tokenizer = train_tokenizer("words", ["b a c", "c z"], vocab_size=7)
    assert tokenizer.vocabulary[4:] == ("c", "a", "b")


@pytest.mark.parametrize(
    ("kind", "size"), [("bpe", 259), ("unigram", 200), ("wordpiece", 5), ("words", 4)]
)
def test_too_small_vocabulary(kind: str, size: int) -> None:
    with pytest.raises(RecipeError, match="too small"):
        train_tokenizer(kind, TEXTS, vocab_size=size)


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(RegardError, match="did you mean 'bpe'"):
        train_tokenizer("bpee", TEXTS)
    with pytest.raises(RecipeError, match="260"):
        train_tokenizer("bytes", TEXTS, vocab_size=300)
    for kind in set(KINDS) - {"bytes"}:
        with pytest.raises(DataError, match="no text"):
            train_tokenizer(kind, iter(["", " "]), vocab_size=SIZES.get(kind))
    path = tmp_path / "tokenizer.json"
    with pytest.raises(DataError, match="No such file"):
        Tokenizer.load(path)
    for text in ("{", "{}", '{"model": {"regard": {"kind": "bpe", "format": 1}}}'):
        path.write_text(text)
        with pytest.raises(DataError, match="damaged"):
            Tokenizer.load(path)
    path.write_text(json.dumps({"model": {"regard": {"kind": "bpe", "format": 99}}}))
    with pytest.raises(DataError, match="newer regard"):
        Tokenizer.load(path)


# Many ties: every letter pair as often as many others.
TIES = """
import sys
from regard.data.tokenizers import train_tokenizer
texts = [" ".join(a + b + a + c for a in "abcdefgh" for b in "ijklm") for c in "opqrst"]
for kind in sys.argv[1:]:
    size = {"bpe": 400, "unigram": 400, "wordpiece": 200}.get(kind)
    print(kind, train_tokenizer(kind, texts * 2, vocab_size=size).fingerprint)
"""


def fresh_process(code: str, *arguments: str, seed: int) -> str:
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_same_file_from_fresh_processes() -> None:
    runs = {fresh_process(TIES, *KINDS, seed=seed) for seed in range(1, 6)}
    assert len(runs) == 1
    assert runs.pop().count("\n") == len(KINDS)


def test_order_of_lines_does_not_matter() -> None:
    for kind in KINDS:
        size = SIZES.get(kind)
        one = train_tokenizer(kind, TEXTS, vocab_size=size)
        assert one.to_json() == train_tokenizer(kind, TEXTS[::-1], vocab_size=size).to_json()


def naive_merges(words: dict[tuple[str, ...], int], alphabet: list[str], limit: int) -> list[str]:
    """The definition, slowly: count everything anew for each merge."""
    pieces = list(alphabet)
    rows = [(list(word), count) for word, count in words.items()]
    while len(pieces) - len(alphabet) < limit:
        totals: dict[tuple[int, int], int] = {}
        for row, count in rows:
            for a, b in pairwise(row):
                pair = (pieces.index(a), pieces.index(b))
                totals[pair] = totals.get(pair, 0) + count
        if not totals or max(totals.values()) < 2:
            break
        left, right = min(totals, key=lambda pair: (-totals[pair], pair))
        new = pieces[left] + pieces[right]
        if new not in pieces:
            pieces.append(new)
        for row, _ in rows:
            i = 0
            while i + 1 < len(row):
                if row[i] == pieces[left] and row[i + 1] == pieces[right]:
                    row[i : i + 2] = [new]
                i += 1
    return pieces[len(alphabet) :]


@given(
    words=st.dictionaries(
        st.text(alphabet="abc", min_size=1, max_size=8).map(tuple), st.integers(1, 9), max_size=12
    ),
    limit=st.integers(0, 12),
)
@settings(max_examples=100, deadline=None)
def test_merges_equal_the_definition(words: dict[tuple[str, ...], int], limit: int) -> None:
    found = learn_merges(words, list("abc"), join=lambda a, b: a + b, limit=limit, min_count=2)
    assert found == naive_merges(words, list("abc"), limit)


@given(text=st.text(alphabet="ab <>s/▁\tpad0x1F", max_size=40))
@settings(max_examples=200, deadline=None)
def test_unigram_learns_from_the_words_that_it_encodes(text: str) -> None:
    library = cached("unigram")._library  # type: ignore[attr-defined]
    words = re.compile(word_pattern(spelled(TokenizerSettings("unigram"))))
    normal = library.normalizer.normalize_str(text)
    split = [word for word, _ in library.pre_tokenizer.pre_tokenize_str(normal)]
    assert words.findall((" " + text).replace(" ", "▁") if text else "") == split


def test_unigram_finds_the_words_of_a_toy_language() -> None:
    tokenizer = train_tokenizer("unigram", TEXTS, vocab_size=340)
    assert tokenizer.tokens(tokenizer.encode("the house"))[0] == "▁the"


@needs_data
def test_segmented_text_of_multi30k() -> None:
    files = [DATA / "tok_bpe" / f"train.{language}.gz" for language in ("en", "de")]

    def lines() -> Iterator[str]:
        for file in files:
            yield from read_lines(file)

    tokenizer = train_tokenizer("words", lines(), continuation="@@")
    assert tokenizer.vocab_size == 9_712
    line = next(read_lines(files[1]))
    assert tokenizer.decode(tokenizer.encode(line)) == line.replace("@@ ", "")


@needs_data
def test_real_text_comes_back() -> None:
    lines = [*read_lines(DATA / "raw" / "val.en.gz"), *read_lines(DATA / "raw" / "val.de.gz")]
    for kind in ("bpe", "unigram", "wordpiece"):
        tokenizer = train_tokenizer(kind, lines[200:], vocab_size=2000)
        assert tokenizer.vocab_size == 2000
        rows = tokenizer.encode_batch(lines)
        back = tokenizer.decode_batch(rows)
        if kind == "wordpiece":
            known = [(a, b) for a, b, r in zip(lines, back, rows, strict=True) if 3 not in r]
            assert len(known) > 0.98 * len(lines)
            assert all(" ".join(a.split()) == b for a, b in known)
        else:
            assert back == lines
