"""Preparing: files to token ids on disk, once, streaming, whatever the amount of text.

An entry of the cache is a directory named by its key: the files' bytes, how they are read, each
column's tokenizer, the settings and the format version. It is written under a dot name and
renamed when it is whole, so that a killed preparation leaves nothing that could be taken for
data; two processes that want the same entry wait for each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np

from regard.data.codecs import Codec, CodecError
from regard.data.prepared import FORMAT, INDEX, LINES, PLACE, Ids, Ints, PreparedData, id_type
from regard.data.readers import Example, Source, display_name
from regard.errors import DataError
from regard.files import sync_directory, sync_file

EMPTY = "empty"
TOO_LONG = "too long"

_CHUNK_EXAMPLES = 8192
_CHUNK_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class PrepareSettings:
    """Which examples go in.

    Attributes:
        max_length: tokens that a side may have, special tokens not counted; None: any number.
        too_long: what becomes of a longer one: it is dropped and counted, kept, or an error.
    """

    max_length: int | None = None
    too_long: Literal["drop", "keep", "error"] = "drop"


def prepare(
    source: Source,
    codecs: Mapping[str, Codec],
    *,
    cache: str | Path,
    fields: Mapping[str, str] | None = None,
    settings: PrepareSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> PreparedData:
    """The source's examples as ids: from the cache, or written there first.

    Memory stays bounded by a few thousand examples. An example of which a side is empty, where its
    codec takes no empty text, is dropped and counted; ``PreparedData.dropped`` has the counts by
    reason.

    Args:
        source: what yields the examples.
        codecs: of each column; its columns become the data's.
        cache: directory of prepared data; made where it is missing.
        fields: the source's column that a column is made of, where its name is another.
        settings: which examples go in.
        progress: called with the number of examples read, now and then, when there is work.

    Raises:
        DataError: the source's own errors; nothing is left to train on; a too long example under
            ``too_long="error"``; the cache cannot be written.
    """
    settings = settings or PrepareSettings()
    names = [display_name(path) for path in source.files]
    plan = _Plan(source, dict(codecs), dict(fields or {}), settings)
    key = cache_key(source, codecs, settings, fields)
    root = Path(cache)
    entry = root / key
    if (found := _opened(entry, names)) is not None:
        return found
    with _locked(root, key):
        if (found := _opened(entry, names)) is not None:  # another process made it meanwhile
            return found
        _sweep(root, key)
        draft = root / f".{key}.draft-{os.getpid()}"
        try:
            shutil.rmtree(entry, ignore_errors=True)  # damaged, if it is there at all
            draft.mkdir()
            _write(draft, key, plan, progress)
            draft.rename(entry)
            sync_directory(root)
        except OSError as error:
            raise unwritable(root, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return PreparedData.open(entry, files=names)


@dataclass(frozen=True)
class _Plan:
    """What `prepare` was asked for."""

    source: Source
    codecs: dict[str, Codec]
    fields: dict[str, str]
    settings: PrepareSettings

    def places(self) -> dict[str, int]:
        """Where in an example the text of each column stands."""
        columns = self.source.columns
        return {name: columns.index(self.fields.get(name, name)) for name in self.codecs}


def cache_key(
    source: Source,
    codecs: Mapping[str, Codec],
    settings: PrepareSettings,
    fields: Mapping[str, str] | None = None,
) -> str:
    """What decides the ids, as 32 hexadecimal digits: content, not names or times of files."""
    content = {
        "format": FORMAT,
        "files": [file_digest(path) for path in source.files],
        "source": dict(source.identity),
        "tokenizers": {name: codec.fingerprint for name, codec in codecs.items()},
        "settings": asdict(settings),
        **({"fields": dict(fields)} if fields else {}),
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder those of its files, with their names.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.is_dir():
            found = hashlib.sha256()
            for one in sorted(held for held in path.rglob("*") if held.is_file()):
                found.update(f"{one.relative_to(path).as_posix()!r} {file_digest(one)}\n".encode())
            return found.hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def _opened(entry: Path, names: Sequence[str]) -> PreparedData | None:
    """An entry that is there and whole, or None."""
    with contextlib.suppress(DataError):
        return PreparedData.open(entry, files=names) if entry.is_dir() else None
    return None


def _write(
    draft: Path,
    key: str,
    plan: _Plan,
    progress: Callable[[int], None] | None,
) -> None:
    source = plan.source
    with contextlib.ExitStack() as stack:
        writer = _Writer(draft, plan, stack)
        read = 0
        for chunk in _chunks(source):
            read += len(chunk)
            writer.add(chunk)
            if progress is not None:
                progress(read)
        writer.dropped.update(getattr(source, "left_out", {}))
        if not writer.examples:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(writer.dropped.items()))
            raise DataError(
                f"no example is left of {read:,}: {reasons or 'there was none'}",
                where=display_name(source.files[0]),
                hint="look at the file, and at data.max_length",
            )
        names = [display_name(path) for path in source.files]
        index = {
            "format": FORMAT,
            "key": key,
            "examples": writer.examples,
            "read": read,
            "columns": writer.describe(),
            "files": names,
            "starts": [[first, names.index(name)] for first, name in writer.starts],
            "dropped": dict(sorted(writer.dropped.items())),
        }
        text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
        (draft / INDEX).write_bytes(text.encode("utf-8"))
    for path in draft.iterdir():
        sync_file(path)
    sync_directory(draft)


class _Writer:
    """Appends ids, offsets and lines to the files of a draft."""

    def __init__(self, draft: Path, plan: _Plan, stack: contextlib.ExitStack) -> None:
        self.codecs, self.settings, self.places = plan.codecs, plan.settings, plan.places()
        self.examples = 0
        self.dropped: Counter[str] = Counter()
        self.starts: list[tuple[int, str]] = []
        self.totals = dict.fromkeys(self.codecs, 0)
        self.dtypes = {
            name: getattr(codec, "dtype", None) or id_type(codec.vocab_size)
            for name, codec in self.codecs.items()
        }
        self.filled = {
            name for name, codec in self.codecs.items() if not getattr(codec, "takes_empty", False)
        }

        def create(name: str) -> IO[bytes]:
            return stack.enter_context((draft / name).open("wb"))

        self.lines = create(LINES)
        self.ids = {name: create(f"{name}.ids") for name in self.codecs}
        self.offsets = {name: create(f"{name}.offsets") for name in self.codecs}
        for file in self.offsets.values():
            file.write(np.zeros(1, dtype=PLACE).tobytes())

    def add(self, chunk: Sequence[Example]) -> None:
        """Encode some examples and append those that go in."""
        places, settings = self.places, self.settings
        kept = [e for e in chunk if all(e.fields[places[name]].strip() for name in self.filled)]
        rows = {name: self._encode(name, kept) for name in self.codecs}
        sizes = {name: held for name, (_, held) in rows.items()}
        there, fits = np.ones((2, len(kept)), dtype=bool)
        for name in self.filled:
            lost = there & (sizes[name] == 0)
            there &= ~lost
            self.dropped[getattr(self.codecs[name], "lost", EMPTY)] += int(lost.sum())
        if settings.max_length is not None and settings.too_long != "keep":
            for column in sizes.values():
                fits &= column <= settings.max_length
        longer = np.flatnonzero(there & ~fits)
        if len(longer) and settings.too_long == "error":
            most = max(int(column[longer[0]]) for column in sizes.values())
            raise DataError(
                f"the example has {most} tokens, more than {settings.max_length}",
                where=kept[longer[0]].origin,
                hint="shorten it or leave it out; model.max_positions says what a model reads",
            )
        chosen = there & fits
        self.dropped[EMPTY] += len(chunk) - len(kept)
        self.dropped[TOO_LONG] += len(longer)
        self.dropped = +self.dropped  # only what happened is reported
        self._append_places([kept[n] for n in np.flatnonzero(chosen)])
        for name, (ids, held) in rows.items():
            self._append(name, ids[np.repeat(chosen, held)], held[chosen])

    def _encode(self, name: str, examples: Sequence[Example]) -> tuple[Ids, Ints]:
        """All ids end to end, and how many each example has."""
        codec, place = self.codecs[name], self.places[name]
        texts = [example.fields[place] for example in examples]
        try:
            if (packed := getattr(codec, "encode_packed", None)) is not None:
                found: tuple[Ids, Ints] = packed(texts)
                return found
            rows = codec.encode_batch(texts)
        except CodecError as error:
            where = error.where or examples[error.number].origin
            raise DataError(error.what, where=where, hint=error.hint) from None
        flat = itertools.chain.from_iterable(rows)
        sizes = np.fromiter(map(len, rows), PLACE, len(rows))
        return np.fromiter(flat, self.dtypes[name], int(sizes.sum())), sizes

    def _append_places(self, examples: Sequence[Example]) -> None:
        for n, example in enumerate(examples):
            if not self.starts or self.starts[-1][1] != example.file:
                self.starts.append((self.examples + n, example.file))
        self.lines.write(np.array([example.line for example in examples], dtype=PLACE).tobytes())
        self.examples += len(examples)

    def _append(self, name: str, ids: Ids, sizes: Ints) -> None:
        self.ids[name].write(ids.astype(self.dtypes[name], copy=False).tobytes())
        self.offsets[name].write((self.totals[name] + np.cumsum(sizes, dtype=PLACE)).tobytes())
        self.totals[name] += int(sizes.sum())

    def describe(self) -> dict[str, dict[str, str | int]]:
        """The columns' part of the index."""
        return {
            name: {"dtype": self.dtypes[name].str, "tokens": self.totals[name]}
            for name in self.codecs
        }


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters, most = 0, getattr(examples, "chunk", _CHUNK_EXAMPLES)
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.fields))
        if len(chunk) >= most or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


@contextlib.contextmanager
def _locked(root: Path, key: str, *, wait: bool = True) -> Iterator[None]:
    """Held by one process at a time; let go of by the system when a process is killed.

    Raises:
        BlockingIOError: another process holds it, where we shall not wait.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / f".{key}.lock").open("wb")
    except OSError as error:
        raise unwritable(root, error) from error
    with file:
        try:
            import fcntl
        except ImportError:  # no such lock on this system: the rename still keeps entries whole
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _sweep(root: Path, key: str) -> None:
    """Remove what killed preparations left: drafts whose lock nobody else holds."""
    if importlib.util.find_spec("fcntl") is None:
        return  # without locks a draft may be at work
    for draft in root.glob(".*.draft-*"):
        owner = draft.name.split(".")[1]
        with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as stack:
            if owner != key:  # ours is held already
                stack.enter_context(_locked(root, owner, wait=False))
            shutil.rmtree(draft, ignore_errors=True)


def unwritable(root: Path, error: OSError) -> DataError:
    """The error for a cache that cannot be written."""
    return DataError(
        f"prepared data cannot be written: {error.strerror or error}",
        where=str(root),
        hint="free some space, or point data.cache at a directory that can be written",
    )
