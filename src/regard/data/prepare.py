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
from typing import IO, Literal, Protocol

import numpy as np

from regard.data.prepared import FORMAT, INDEX, LINES, PLACE, PreparedData
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


class Encoder(Protocol):
    """What turns a column's texts into ids: a `Tokenizer`, or what a task makes of one."""

    @property
    def vocab_size(self) -> int:
        """The number of ids."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints, equal ids."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        ...


def prepare(
    source: Source,
    tokenizers: Mapping[str, Encoder],
    *,
    cache: str | Path,
    settings: PrepareSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> PreparedData:
    """The source's examples as ids: from the cache, or written there first.

    Memory stays bounded by a few thousand examples. An example of which a side is empty is
    dropped and counted; ``PreparedData.dropped`` has the counts by reason.

    Args:
        source: what yields the examples.
        tokenizers: of each column; its columns become the data's.
        cache: directory of prepared data; made where it is missing.
        settings: which examples go in.
        progress: called with the number of examples read, now and then, when there is work.

    Raises:
        DataError: the source's own errors; nothing is left to train on; a too long example under
            ``too_long="error"``; the cache cannot be written.
    """
    settings = settings or PrepareSettings()
    names = [display_name(path) for path in source.files]
    key = cache_key(source, tokenizers, settings)
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
            _write(draft, key, source, tokenizers, settings, progress)
            draft.rename(entry)
            sync_directory(root)
        except OSError as error:
            raise _unwritable(root, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return PreparedData.open(entry, files=names)


def cache_key(source: Source, tokenizers: Mapping[str, Encoder], settings: PrepareSettings) -> str:
    """What decides the ids, as 32 hexadecimal digits: content, not names or times of files."""
    content = {
        "format": FORMAT,
        "files": [_digest(path) for path in source.files],
        "source": dict(source.identity),
        "tokenizers": {name: tokenizer.fingerprint for name, tokenizer in tokenizers.items()},
        "settings": asdict(settings),
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def _digest(path: Path) -> str:
    try:
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
    source: Source,
    tokenizers: Mapping[str, Encoder],
    settings: PrepareSettings,
    progress: Callable[[int], None] | None,
) -> None:
    with contextlib.ExitStack() as stack:
        writer = _Writer(draft, tokenizers, stack)
        read = 0
        for chunk in _chunks(source):
            read += len(chunk)
            writer.add(chunk, source, settings)
            if progress is not None:
                progress(read)
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

    def __init__(
        self, draft: Path, tokenizers: Mapping[str, Encoder], stack: contextlib.ExitStack
    ) -> None:
        self.tokenizers = dict(tokenizers)
        self.examples = 0
        self.dropped: Counter[str] = Counter()
        self.starts: list[tuple[int, str]] = []
        self.totals = dict.fromkeys(tokenizers, 0)
        self.dtypes = {
            name: np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
            for name, tokenizer in tokenizers.items()
        }

        def create(name: str) -> IO[bytes]:
            return stack.enter_context((draft / name).open("wb"))

        self.lines = create(LINES)
        self.ids = {name: create(f"{name}.ids") for name in tokenizers}
        self.offsets = {name: create(f"{name}.offsets") for name in tokenizers}
        for file in self.offsets.values():
            file.write(np.zeros(1, dtype=PLACE).tobytes())

    def add(self, chunk: Sequence[Example], source: Source, settings: PrepareSettings) -> None:
        """Encode some examples and append those that go in."""
        places = {name: source.columns.index(name) for name in self.tokenizers}
        kept = [e for e in chunk if all(e.fields[i].strip() for i in places.values())]
        rows = {
            name: tokenizer.encode_batch([example.fields[places[name]] for example in kept])
            for name, tokenizer in self.tokenizers.items()
        }
        self.dropped[EMPTY] += len(chunk) - len(kept)
        limit = settings.max_length if settings.too_long != "keep" else None
        chosen = []
        for n, example in enumerate(kept):
            sizes = [len(column[n]) for column in rows.values()]
            if min(sizes) == 0:
                self.dropped[EMPTY] += 1
            elif limit is None or max(sizes) <= limit:
                chosen.append(n)
            elif settings.too_long == "drop":
                self.dropped[TOO_LONG] += 1
            else:
                raise DataError(
                    f"the example has {max(sizes)} tokens, more than {limit}",
                    where=example.origin,
                    hint="shorten it or leave it out; model.max_positions says what a model reads",
                )
        self.dropped = +self.dropped  # only what happened is reported
        self._append(
            [kept[n] for n in chosen], {c: [r[n] for n in chosen] for c, r in rows.items()}
        )

    def _append(self, examples: Sequence[Example], rows: Mapping[str, list[list[int]]]) -> None:
        for n, example in enumerate(examples):
            if not self.starts or self.starts[-1][1] != example.file:
                self.starts.append((self.examples + n, example.file))
        lines = np.array([example.line for example in examples], dtype=PLACE)
        self.lines.write(lines.tobytes())
        for name, column in rows.items():
            ends = self.totals[name] + np.cumsum([len(row) for row in column], dtype=PLACE)
            flat = itertools.chain.from_iterable(column)
            self.ids[name].write(np.fromiter(flat, dtype=self.dtypes[name]).tobytes())
            self.offsets[name].write(ends.tobytes())
            self.totals[name] = int(ends[-1]) if len(ends) else self.totals[name]
        self.examples += len(examples)

    def describe(self) -> dict[str, dict[str, str | int]]:
        """The columns' part of the index."""
        return {
            name: {"dtype": self.dtypes[name].str, "tokens": self.totals[name]}
            for name in self.tokenizers
        }


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.fields))
        if len(chunk) >= _CHUNK_EXAMPLES or characters >= _CHUNK_CHARACTERS:
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
        raise _unwritable(root, error) from error
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


def _unwritable(root: Path, error: OSError) -> DataError:
    return DataError(
        f"prepared data cannot be written: {error.strerror or error}",
        where=str(root),
        hint="free some space, or point data.cache at a directory that can be written",
    )
