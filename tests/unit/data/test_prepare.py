"""Preparing: what is written, what is counted, and that nothing half-made is ever taken."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from regard.data import (
    ParallelText,
    PreparedData,
    PrepareSettings,
    cache_key,
    prepare,
    train_tokenizer,
)
from regard.data.tokenizers import Tokenizer
from regard.errors import DataError

SOURCE = ["a b c", "", "d e", "a a a a a a", "  ", "c"]
TARGET = ["x y", "x", "", "y", "z", "z x y"]


@pytest.fixture
def tokenizers() -> dict[str, Tokenizer]:
    tokenizer = train_tokenizer("words", [*SOURCE, *TARGET])
    return {"source": tokenizer, "target": tokenizer}


def write_pair(
    folder: Path, source: list[str] = SOURCE, target: list[str] = TARGET
) -> ParallelText:
    folder.mkdir(exist_ok=True)
    for name, lines in (("a.en", source), ("a.de", target)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ParallelText({"source": folder / "a.en", "target": folder / "a.de"})


def entries(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir() if not p.name.endswith(".lock"))


def test_what_is_kept_and_counted(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    data = prepare(
        write_pair(tmp_path),
        tokenizers,
        cache=tmp_path / "cache",
        settings=PrepareSettings(max_length=3),
    )
    assert data.dropped == {"empty": 3, "too long": 1}
    assert len(data) == 2
    assert data.columns == ("source", "target")
    decode = tokenizers["source"].decode
    assert [decode(data.ids("source", i)) for i in range(2)] == ["a b c", "c"]
    assert [decode(data.ids("target", i)) for i in range(2)] == ["x y", "z x y"]
    assert data.lengths("source").tolist() == [3, 1]
    assert data.lengths("target").sum() == 5
    assert [data.origin(i) for i in range(2)] == [f"{tmp_path}/a.en:1", f"{tmp_path}/a.en:6"]
    assert data.ids("source", 0).dtype == np.uint16


def test_long_ones_are_kept_or_refused(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    source = write_pair(tmp_path)
    kept = prepare(source, tokenizers, cache=tmp_path / "c", settings=PrepareSettings(3, "keep"))
    assert kept.dropped == {"empty": 3}
    assert kept.lengths("source").max() == 6
    with pytest.raises(DataError, match=r"a\.en:4: the example has 6 tokens, more than 3"):
        prepare(source, tokenizers, cache=tmp_path / "c", settings=PrepareSettings(3, "error"))


def test_second_time_nothing_is_read(
    tmp_path: Path, tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pair(tmp_path)
    first = prepare(source, tokenizers, cache=tmp_path / "cache")
    calls: list[int] = []
    monkeypatch.setattr(ParallelText, "__iter__", None)
    again = prepare(source, tokenizers, cache=tmp_path / "cache", progress=calls.append)
    assert again.key == first.key
    assert calls == []
    assert again.ids("target", 1).tolist() == first.ids("target", 1).tolist()


def test_entry_is_found_under_other_names(
    tmp_path: Path, tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(write_pair(tmp_path / "one"), tokenizers, cache=tmp_path / "cache")
    moved = write_pair(tmp_path / "two")
    monkeypatch.setattr(ParallelText, "__iter__", None)
    data = prepare(moved, tokenizers, cache=tmp_path / "cache")
    assert data.origin(1) == f"{tmp_path}/two/a.en:4"


def test_key_follows_all_that_decides(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    source = write_pair(tmp_path)
    settings = PrepareSettings()
    keys = {cache_key(source, tokenizers, settings)}
    keys.add(cache_key(source, tokenizers, PrepareSettings(max_length=5)))
    other = train_tokenizer("words", SOURCE)
    keys.add(cache_key(source, tokenizers | {"target": other}, settings))
    swapped = ParallelText({"source": source.files[1], "target": source.files[0]})
    keys.add(cache_key(swapped, tokenizers, settings))
    changed = write_pair(tmp_path, [*SOURCE[:-1], "d"])
    keys.add(cache_key(changed, tokenizers, settings))
    assert len(keys) == 5
    os.utime(source.files[0], (1, 1))  # times decide nothing
    assert cache_key(changed, tokenizers, settings) in keys


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(70_000)]
    tokenizer = train_tokenizer("words", [" ".join(words)])
    (tmp_path / "a").write_text(" ".join(words[-3:]) + "\n")
    data = prepare(
        ParallelText({"text": tmp_path / "a"}), {"text": tokenizer}, cache=tmp_path / "c"
    )
    assert data.ids("text", 0).dtype == np.uint32
    assert tokenizer.decode(data.ids("text", 0)) == " ".join(words[-3:])


def test_many_chunks(
    tmp_path: Path, tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("regard.data.prepare")  # the name is the function's too
    monkeypatch.setattr(module, "_CHUNK_EXAMPLES", 4)
    rng = np.random.default_rng(0)
    source = [" ".join(rng.choice(list("abcde"), n)) for n in rng.integers(0, 6, 50)]
    target = [" ".join(rng.choice(list("xyz"), n)) for n in rng.integers(1, 6, 50)]
    seen: list[int] = []
    data = prepare(
        write_pair(tmp_path, source, target), tokenizers, cache=tmp_path / "c", progress=seen.append
    )
    assert seen == [*range(4, 50, 4), 50]
    kept = [n for n, line in enumerate(source) if line]
    assert data.dropped == {"empty": 50 - len(kept)}
    for i, n in enumerate(kept):
        assert tokenizers["source"].decode(data.ids("source", i)) == source[n]
        assert tokenizers["target"].decode(data.ids("target", i)) == target[n]
        assert data.origin(i).endswith(f"a.en:{n + 1}")


def test_errors_leave_nothing(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"a\.en has 2, .*a\.de has 1"):
        prepare(write_pair(tmp_path, ["a", "b"], ["x"]), tokenizers, cache=cache)
    with pytest.raises(DataError, match="no example is left of 2: 1 empty, 1 too long"):
        prepare(
            write_pair(tmp_path, ["a", "a b"], ["", "x"]),
            tokenizers,
            cache=cache,
            settings=PrepareSettings(max_length=1),
        )
    assert entries(cache) == []


@pytest.mark.parametrize("damage", ["cut", "index", "gone", "format"])
def test_damaged_entries_are_made_again(
    tmp_path: Path, tokenizers: dict[str, Tokenizer], damage: str
) -> None:
    source, cache = write_pair(tmp_path), tmp_path / "cache"
    entry = cache / prepare(source, tokenizers, cache=cache).key
    if damage == "cut":
        (entry / "target.ids").write_bytes(b"")
    elif damage == "index":
        (entry / "index.json").write_text("{")
    elif damage == "gone":
        (entry / "lines.bin").unlink()
    else:
        index = json.loads((entry / "index.json").read_text())
        (entry / "index.json").write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(DataError, match="damaged"):
        PreparedData.open(entry)
    data = prepare(source, tokenizers, cache=cache)
    assert tokenizers["target"].decode(data.ids("target", 0)) == "x y"


def test_cache_that_cannot_be_written(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        prepare(write_pair(tmp_path), tokenizers, cache=tmp_path / "file" / "cache")


CHILD = """
import os, resource, signal, sys, time
from pathlib import Path
from regard.data import ParallelText, prepare, train_tokenizer
from regard.errors import DataError
folder, what = Path(sys.argv[1]), sys.argv[2]
source = ParallelText({"source": folder / "a.en", "target": folder / "a.de"})
tokenizer = train_tokenizer("words", ["a b c d e x y z"])
if what == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

def progress(read):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "slow":
        print("started", flush=True)
        time.sleep(1.0)
try:
    data = prepare(source, {"source": tokenizer, "target": tokenizer}, cache=folder / "cache",
                   progress=progress)
    print("done", len(data))
except DataError as error:
    print(error)
"""


def child(folder: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), what], stdout=subprocess.PIPE, text=True
    )


def test_killed_preparation_leaves_nothing_that_is_taken(
    tmp_path: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    source, cache = write_pair(tmp_path), tmp_path / "cache"
    killed = child(tmp_path, "kill")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    left = entries(cache)
    assert len(left) == 1
    assert ".draft-" in left[0]
    data = prepare(source, tokenizers, cache=cache)
    assert len(data) == 3
    assert entries(cache) == [data.key]


def test_drafts_of_other_keys_are_swept_unless_at_work(
    tmp_path: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    write_pair(tmp_path)
    cache = tmp_path / "cache"
    child(tmp_path, "kill").communicate()
    worker = child(tmp_path, "slow")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "started\n"
    others = write_pair(tmp_path / "other", ["a"], ["x"])
    key = prepare(others, tokenizers, cache=cache).key
    assert sum(".draft-" in name for name in entries(cache)) == 1  # the worker's alone
    assert "done" in worker.communicate()[0]
    assert len(entries(cache)) == 2
    assert key in entries(cache)


def test_two_processes_make_one_entry(tmp_path: Path) -> None:
    write_pair(tmp_path)
    first = child(tmp_path, "slow")
    assert first.stdout is not None
    assert first.stdout.readline() == "started\n"
    second = child(tmp_path, "plain")
    time.sleep(0.2)
    outputs = [process.communicate()[0] for process in (first, second)]
    assert all("done" in output for output in outputs)
    assert "started" not in outputs[1]
    assert len(entries(tmp_path / "cache")) == 1


def test_full_disk(tmp_path: Path) -> None:
    lines = ["a b c d e a b c d e"] * 3000
    write_pair(tmp_path, lines, lines)
    process = child(tmp_path, "full")
    output = process.communicate()[0]
    assert process.returncode == 0
    assert "prepared data cannot be written" in output
    assert entries(tmp_path / "cache") == []


class Endless:
    """Examples made on the fly, as many as wanted; their content decides by count alone."""

    columns = ("text",)
    identity = {"format": "made"}  # noqa: RUF012

    def __init__(self, file: Path, count: int) -> None:
        self.files = (file,)
        self.count = count

    def __iter__(self) -> Iterator[object]:
        from regard.data.readers import Example

        for n in range(self.count):
            yield Example(("a b c d e " * 20,), str(self.files[0]), n + 1)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "a").write_text("x")
    tokenizer = train_tokenizer("words", ["a b c d e"])
    peaks = []
    for count in (10_000, 40_000):
        tracemalloc.start()
        data = prepare(
            Endless(tmp_path / "a", count),  # type: ignore[arg-type]
            {"text": tokenizer},
            cache=tmp_path / f"c{count}",
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert data.lengths("text").sum() == count * 100
    assert peaks[1] < 1.2 * peaks[0]


def test_in_memory() -> None:
    data = PreparedData.in_memory({"source": [[4, 5], [6]], "target": [[7], [8, 9]]}, file="demo")
    assert len(data) == 2
    assert data.ids("target", 1).tolist() == [8, 9]
    assert data.origin(1) == "demo:2"
    with pytest.raises(DataError, match="unequal"):
        PreparedData.in_memory({"source": [[1]], "target": []})


def test_the_digest_is_of_the_ids_alone(tmp_path: Path, tokenizers: dict[str, Tokenizer]) -> None:
    data = prepare(write_pair(tmp_path), tokenizers, cache=tmp_path / "cache")
    columns = {
        name: [data.ids(name, i).tolist() for i in range(len(data))] for name in data.columns
    }
    stored, longer = hashlib.blake2b(digest_size=16), PreparedData.in_memory(columns).digest()
    for name in data.columns:
        stored.update(np.concatenate(columns[name]).astype("<u2").tobytes())
        stored.update(np.cumsum([0, *map(len, columns[name])]).astype("<i8").tobytes())
    assert data.digest() == stored.hexdigest() != longer  # held in memory ids are wider


class Listed:
    """A codec that gives lists alone."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocab_size, self.fingerprint = tokenizer.vocab_size, "listed"
        self.encode_batch = tokenizer.encode_batch


def test_arrays_and_lists_are_the_same_data(tmp_path: Path) -> None:
    texts = ["a  b", "a b\tc", "d \u00a0", "c" * 9, *SOURCE, *TARGET]
    tokenizer = train_tokenizer("bpe", texts * 2)
    made = [
        prepare(
            write_pair(tmp_path, texts, texts[::-1]),
            {"source": codec, "target": codec},
            cache=tmp_path / type(codec).__name__,
            settings=PrepareSettings(3),
        )
        for codec in (tokenizer, Listed(tokenizer))
    ]
    assert made[0].digest() == made[1].digest()
    assert made[0].dropped == made[1].dropped
    assert made[0].dropped["empty"] == 6
    assert made[0].dropped["too long"]
    assert made[0].origin(0) == made[1].origin(0)


def test_zero_byte_maps(tmp_path: Path) -> None:
    """A column may not be empty, but an entry whose files hold nothing must not crash either."""
    index = {
        "format": 1,
        "key": "k",
        "examples": 0,
        "columns": {"text": {"dtype": "<u2", "tokens": 0}},
        "files": ["a"],
        "starts": [],
        "dropped": {},
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "text.ids").touch()
    (tmp_path / "lines.bin").touch()
    (tmp_path / "text.offsets").write_bytes(np.zeros(1, dtype="<i8").tobytes())
    assert len(PreparedData.open(tmp_path)) == 0
