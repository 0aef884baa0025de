"""The field's tokenizers: reference encodings, and ``transformers`` itself where it is installed.

The files lie in ../shared/data, which a checkout may lack.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regard.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from regard.errors import InputError
from regard.interop import sentencepiece
from regard.interop.vocabularies import SOURCE, TOKENIZER, read_vocabulary, subword_nmt

DATA = Path(__file__).parents[3] / "shared" / "data" / "tok_reference"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")

SIZES = {"gpt2": 50257, "bert": 30522, "roberta": 50261, "llama": 1000, "marian": 1100}
SPELLED = "</s><s> [SEP] <|endoftext|> <unk> <0x41> [MASK]<mask>"


def references(name: str) -> list[dict[str, Any]]:
    lines = (DATA / "references.jsonl").read_text(encoding="utf-8").splitlines()
    found = [one for one in map(json.loads, lines) if one["tokenizer"] == name]
    assert len(found) == 40
    return found


def corpus() -> list[str]:
    lines = (DATA / "subword_nmt" / "corpus.en").read_text(encoding="utf-8").splitlines()
    return [one["text"] for one in references("gpt2")] + lines[:200]


def gpt2(to: Path) -> None:
    shutil.copy(DATA / "gpt2" / "encoder.json", to / "vocab.json")
    shutil.copy(DATA / "gpt2" / "vocab.bpe", to / "merges.txt")


def bert(to: Path) -> None:
    shutil.copy(DATA / "bert_uncased" / "vocab.txt", to)


def cased(to: Path) -> None:
    bert(to)
    (to / "tokenizer_config.json").write_text('{"do_lower_case": false}')


def roberta(to: Path) -> None:
    gpt2(to)
    known = json.loads((to / "vocab.json").read_text(encoding="utf-8"))
    entries = sorted(known, key=known.__getitem__)[:-1]
    entries = ["<s>", "<pad>", "</s>", "<unk>", *entries, "<mask>"]
    write_vocab(to, entries)


def llama(to: Path) -> None:
    shutil.copy(DATA / "sentencepiece_en1000" / "test_model.model", to / "tokenizer.model")


def marian(to: Path) -> None:
    for side in ("source", "target"):
        shutil.copy(DATA / "sentencepiece_en1000" / "test_model.model", to / f"{side}.spm")
    pieces = [one.text for one in sentencepiece.read_model(to / "source.spm").pieces]
    known = [one for one in reversed(pieces) if one not in ("<s>", "</s>", "<unk>")]
    others = [">>de<<", "ñ", "é"]  # of another side's segmentation
    write_vocab(to, ["</s>", "<unk>", *others, *known[: len(known) - 100], "<pad>"])
    settings = {"source_lang": "en", "target_lang": "de"}
    (to / "tokenizer_config.json").write_text(json.dumps(settings))


def write_vocab(to: Path, entries: list[str]) -> None:
    text = json.dumps({entry: i for i, entry in enumerate(entries)})
    (to / "vocab.json").write_text(text, encoding="utf-8")


MAKERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "gpt2": ("gpt2", gpt2),
    "bert": ("bert", bert),
    "cased": ("bert", cased),
    "roberta": ("roberta", roberta),
    "llama": ("llama", llama),
    "marian": ("marian", marian),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """A directory as the field has it, and its tokenizers as ours; each made once."""
    found: dict[str, tuple[Path, Any]] = {}

    def make(name: str) -> tuple[Path, Any]:
        if name not in found:
            model_type, maker = MAKERS[name]
            directory = tmp_path_factory.mktemp(name)
            maker(directory)
            config = {"model_type": model_type, "vocab_size": SIZES[model_type]}
            (directory / "config.json").write_text(json.dumps(config))
            size, decoder = SIZES[model_type], model_type in ("gpt2", "llama", "marian")
            tokenizers, _ = read_vocabulary(directory, config, decoder=decoder, size=size)
            found[name] = directory, tokenizers
        return found[name]

    return make


@pytest.mark.parametrize(
    ("name", "reference"),
    [("gpt2", "gpt2"), ("bert", "bert_uncased"), ("llama", "sentencepiece_en1000")],
)
def test_references(name: str, reference: str, made: Any) -> None:
    tokenizer = made(name)[1][TOKENIZER]
    for one in references(reference):
        ids = tokenizer.encode(one["text"])
        framed = [tokenizer.start_id, *ids, tokenizer.end_id] if name == "bert" else ids
        assert framed == one["ids"], one["text"]


def test_subword_nmt() -> None:
    directory = DATA / "subword_nmt"
    pairs = [
        (directory / name).read_text(encoding="utf-8").splitlines()
        for name in ("corpus.en", "corpus.bpe.ref.en")
    ]
    texts = [*zip(*pairs, strict=True)]
    assert len(texts) == 1015
    texts += [(one["text"], " ".join(one["tokens"])) for one in references("subword_nmt")]
    words = train_tokenizer("words", [segmented for _, segmented in texts], continuation="@@")
    ours = subword_nmt(directory / "bpe.ref", words.vocabulary)
    for raw, segmented in texts:
        ids = ours.encode(raw)
        assert ids == words.encode(segmented), raw
        assert [ours.vocabulary[i] for i in ids] == segmented.split()
        assert ours.decode(ids) == " ".join(raw.split())
    with pytest.raises(InputError, match="no file of merges of subword-nmt"):
        subword_nmt(directory / "corpus.en", words.vocabulary)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "llama"])
def test_transformers_gives_the_same_ids(name: str, made: Any) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    if name == "marian":
        pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    directory, ours = made(name)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    source = ours.get(SOURCE, ours[TOKENIZER])
    for text in [*corpus(), ">>de<< Hello", ">>xx<< Hello"]:
        assert source.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text
    if name == "marian":
        for text in corpus():
            wanted = theirs(text_target=text, add_special_tokens=False)["input_ids"]
            assert ours[TOKENIZER].encode(text) == wanted
    roles = {"start": ("cls", "bos"), "end": ("sep", "eos"), "pad": ("pad",), "mask": ("mask",)}
    for role, names in roles.items():
        ids = [getattr(theirs, f"{one}_token_id", None) for one in names]
        wanted = next((i for i in ids if i is not None), None)
        if wanted is not None:
            assert getattr(source, f"{role}_id") == wanted
    assert source.pair_separators == (2 if name == "roberta" else 1)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_sentencepiece_gives_the_same_ids(kind: str, tmp_path: Path) -> None:
    """Of a model with bytes and the spaces kept, as Llama's."""
    library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()[40:]),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=500,
        model_type=kind,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<sep>"],
        minloglevel=2,
    )
    theirs = library.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    found, _ = read_vocabulary(tmp_path, {"model_type": "llama"}, decoder=True, size=500)
    ours = found[TOKENIZER]
    assert ours.prefix_ids == (1,)
    # After a user's own piece the library puts a space before what follows, in a BPE model.
    for text in [*corpus(), SPELLED, "a<sep>" if kind == "bpe" else "a<sep>b"]:
        ids, made = theirs.encode(text), ours.encode(text)
        if kind == "unigram" and made != ids:  # of segmentations that score the same either may win
            assert sum(map(theirs.get_score, made)) == pytest.approx(
                sum(map(theirs.get_score, ids)), rel=1e-6
            )
            continue
        assert made == ids, text
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.filterwarnings("default")
def test_t5s_sentinels_are_read_and_written(tmp_path: Path) -> None:
    library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()[40:]),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=400,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    config = {"model_type": "t5", "decoder_start_token_id": 0, "vocab_size": 512}
    (tmp_path / "config.json").write_text(json.dumps(config))
    texts = [*corpus()[:60], "A <extra_id_0> walks<extra_id_1> by.", "<extra_id_99>"]
    found, origin = read_vocabulary(tmp_path, config, decoder=True, size=512)
    ours = found[TOKENIZER]
    assert origin == "spiece.model"
    assert (ours.start_id, ours.end_id, ours.pad_id, ours.unk_id) == (0, 1, 0, 2)
    assert [ours.id_of(f"<extra_id_{n}>") for n in (0, 99)] == [499, 400]
    plain = library.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    for text in texts[:60]:
        assert ours.encode(text) == plain.encode(text)
    assert ours.decode(ours.encode(texts[-2])) == "A<extra_id_0> walks<extra_id_1> by."
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "fast")
    (tmp_path / "fast" / "config.json").write_text(json.dumps(config))
    again, origin = read_vocabulary(tmp_path / "fast", config, decoder=True, size=512)
    assert origin == "tokenizer.json"
    for text in texts:
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        assert again[TOKENIZER].encode(text) == wanted, text
        assert ours.encode(text) == wanted, text
    assert "<extra_id_1>" in again[TOKENIZER].decode(again[TOKENIZER].encode(texts[-2]))


@pytest.mark.parametrize("name", MAKERS)
def test_the_file_comes_back_and_text_spells_no_special_token(
    name: str, made: Any, tmp_path: Path
) -> None:
    for file, tokenizer in made(name)[1].items():
        tokenizer.save(tmp_path / file)
        again = load_tokenizer(tmp_path / file)
        assert again.to_json() == tokenizer.to_json()
        assert specials(again) == specials(tokenizer)
        texts = [*corpus()[:60], "", " ", SPELLED]
        rows = again.encode_batch(texts)
        assert rows == [tokenizer.encode(text) for text in texts]
        framed = [again.start_id, *rows[5], again.end_id, again.pad_id]
        assert again.decode(framed) == again.decode(rows[5])
        assert all(len(again.tokens(row)) == len(row) for row in rows)
        assert not {again.start_id, again.end_id, again.pad_id, again.mask_id} & set(rows[-1])


def specials(tokenizer: Tokenizer) -> list[Any]:
    names = ("pad_id", "start_id", "end_id", "unk_id", "mask_id", "prefix_ids", "pair_separators")
    return [getattr(tokenizer, name) for name in names]


def test_damaged_and_oversized_files(tmp_path: Path) -> None:
    llama(tmp_path)
    with pytest.raises(InputError, match="the tokenizer has 1,000 entries, the model 999"):
        read_vocabulary(tmp_path, {"model_type": "llama"}, decoder=True, size=999)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="is no SentencePiece model: it is cut short"):
        read_vocabulary(tmp_path, {"model_type": "llama"}, decoder=True, size=1000)
    path.unlink()
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": 3}}')
    with pytest.raises(InputError, match="its tokenizer cannot be used"):
        read_vocabulary(tmp_path, {"model_type": "llama"}, decoder=True, size=1000)
