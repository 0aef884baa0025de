"""Training from every kind of file, through the command line: the same pairs, the same weights."""

import csv
import gzip
import io
import json

import pytest

import regard

from ._made import bits

QUICK = {"training.max_steps": 2, "evaluation.samples": 0, "evaluation.every_steps": 2}
STEPS = ["training.max_steps=2", "evaluation.samples=0", "evaluation.every_steps=2"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The weights that two plain files give."""
    from ._made import write_files

    directory = tmp_path_factory.mktemp("plain")
    write_files(directory)
    regard.train(directory / "tiny.toml", QUICK, run=directory / "run")
    return bits(directory / "run", 2)


def pairs(directory, split):
    sides = [(directory / f"{split}.{side}").read_text().splitlines() for side in SIDES]
    return list(zip(*sides, strict=True))


SIDES = ("source", "target")


def tsv(rows):
    return "".join(f"{n}\t{de}\t{en}\n" for n, (en, de) in enumerate(rows)).encode()


def headed_tsv(rows):
    return b"id\tde\ten\n" + tsv(rows)


def csv_bytes(rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["en", "note", "de"])
    writer.writerows([en, 'a, "quoted" note', de] for en, de in rows)
    return text.getvalue().encode()


def jsonl(rows):
    return "".join(json.dumps({"de": de, "en": en}) + "\n" for en, de in rows).encode()


def parquet(rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    made = io.BytesIO()
    table = pyarrow.table({"en": [en for en, _ in rows], "de": [de for _, de in rows]})
    parquet.write_table(table, made)
    return made.getvalue()


def zst(data):
    return pytest.importorskip("zstandard").compress(data)


NAMED = 'fields={ source = "en", target = "de" }'
NUMBERED = "fields={ source = 3, target = 2 }"


@pytest.mark.parametrize(
    ("name", "make", "pack", "fields"),
    [
        ("{}.tsv", tsv, bytes, NUMBERED),
        ("{}.tsv", headed_tsv, bytes, NAMED),
        ("{}.csv", csv_bytes, bytes, NAMED),
        ("{}.csv.zst", csv_bytes, zst, NAMED),
        ("{}.jsonl", jsonl, bytes, NAMED),
        ("{}.jsonl.gz", jsonl, gzip.compress, NAMED),
        ("{}.parquet", parquet, bytes, NAMED),
    ],
    ids=["tsv", "tsv-header", "csv", "csv.zst", "jsonl", "jsonl.gz", "parquet"],
)
def test_tables(call, files, plain, name, make, pack, fields):
    words = []
    for split in ("train", "valid"):
        path = files / name.format(split)
        path.write_bytes(pack(make(pairs(files, split))))
        words += [f"data.{split}.file={path.name}", f"data.{split}.{fields}"]
    done = call("train", "tiny.toml", *words, *STEPS, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert "300 pairs to train on" in done.stderr
    assert bits(files / "run", 2) == plain


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("zst", zst)])
def test_packed_files(call, files, plain, ending, pack):
    words = []
    for side in SIDES:
        path = files / f"train.{side}"
        (files / f"{path.name}.{ending}").write_bytes(pack(path.read_bytes()))
        words.append(f"data.train.{side}={path.name}.{ending}")
    done = call("train", "tiny.toml", *words, *STEPS, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert bits(files / "run", 2) == plain


def test_line_ends_and_a_mark_change_nothing(call, files, plain):
    for side in SIDES:
        path = files / f"train.{side}"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    done = call("train", "tiny.toml", *STEPS, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert bits(files / "run", 2) == plain


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"en\tde\n1\t1\n2\n", "train.tsv:3: the row has 1 fields, the first one has 2"),
        (b"en\tfr\n1\t1\n", "there is no field 'de'"),
        (b"", "train.tsv: the file is empty"),
        (b"en\tde\n", "train.tsv: there is no example in it"),
    ],
)
def test_damaged_tables(call, files, data, words):
    (files / "train.tsv").write_bytes(data)
    done = call("train", "tiny.toml", "data.train.file=train.tsv", f"data.train.{NAMED}")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (files / "runs" / "tiny").exists()


def test_a_prepared_cache_is_shared(call, files, plain):
    for name in ("one", "two"):
        done = call("train", "tiny.toml", *STEPS, "data.cache=cache", "--run", name)
        assert done.returncode == 0, done.stderr
        assert bits(files / name, 2) == plain
    entries = [path for path in (files / "cache").iterdir() if not path.name.startswith(".")]
    assert len(entries) == 3  # train, valid, and the tokenizer
    assert not (files / "one" / "data").exists()


def test_workers_change_nothing(call, files, plain):
    done = call("train", "tiny.toml", *STEPS, "training.workers=2", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert bits(files / "run", 2) == plain


def test_a_corpus_of_regards_own(call, files):
    done = call(
        *("train", "tiny.toml", *STEPS, "--run", "run"),
        *(f"data.{split}.corpus=copy-digits" for split in ("train", "valid", "test")),
    )
    assert done.returncode == 0, done.stderr
    assert "50,000 pairs to train on" in done.stderr


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "bytes", "chars"])
def test_every_tokenizer(call, files, kind):
    words = [f"tokenizer.kind={kind}"]
    if kind in ("bpe", "unigram", "wordpiece"):
        words.append("tokenizer.vocab_size=280")
    done = call("train", "tiny.toml", *words, *STEPS, "training.batch_tokens=2000", "--run", "run")
    assert done.returncode == 0, done.stderr
    done = call("translate", "run", "1 2 3")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    done = call("evaluate", "run")
    assert "tok:13a" in done.stdout, done.stderr


def test_two_vocabularies(call, files):
    apart = ["tokenizer.joint=false", "model.tie=target", *STEPS]
    done = call("train", "tiny.toml", *apart, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert (files / "run" / "tokenizer.source.json").exists()
    assert call("translate", "run", "1 2 3").returncode == 0
    done = call("train", "run", "training.max_steps=3", "--resume")
    assert done.returncode == 0, done.stderr
