"""Corpora on disk: two parallel text files a split, and a manifest that says if they are whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from regard.corpora.corpus import Corpus
from regard.errors import DataError
from regard.files import write_bytes, write_text

MANIFEST = "corpus.json"


def _manifest(directory: Path) -> dict[str, object] | None:
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _whole(directory: Path, wanted: dict[str, object], names: list[str]) -> bool:
    """Whether the directory holds the wanted corpus, every byte of it."""
    manifest = _manifest(directory)
    if manifest is None or any(manifest.get(key) != value for key, value in wanted.items()):
        return False
    sums = manifest.get("sha256")
    try:
        return sums == {name: _sum((directory / name).read_bytes()) for name in names}
    except OSError:
        return False


def _sum(content: bytes) -> str:
    return sha256(content).hexdigest()


def write_corpus(
    directory: Path,
    wanted: dict[str, object],
    suffixes: tuple[str, str],
    make: Callable[[], Corpus],
) -> dict[str, Path]:
    """Write a corpus's files, or use those that are there and whole.

    The manifest, with each file's checksum, is written first: files under it that are missing or
    differ (a write that was cut short) are written again.

    Args:
        wanted: what the corpus is (name, version, seed, size), compared with the manifest's.
        suffixes: the endings of the source's and of the target's file.
        make: gives the corpus, if it must be written.

    Returns:
        The files by ``train.source``, ``train.target``, ``valid.source`` and so on.

    Raises:
        DataError: a file of that name is there that this function did not write, or writing failed.
    """
    names = {
        f"{split}.{side}": f"{split}.{suffix}"
        for split in ("train", "valid", "test")
        for side, suffix in zip(("source", "target"), suffixes, strict=True)
    }
    paths = {key: directory / name for key, name in names.items()}
    if _whole(directory, wanted, list(names.values())):
        return paths
    if _manifest(directory) is None:
        for path in paths.values():
            if path.exists():
                raise DataError(
                    "the file exists, and is not one of a corpus made here",
                    where=str(path),
                    hint="choose another directory, or move the file away",
                )
    contents = _contents(make(), names)
    sums = {name: _sum(content) for name, content in contents.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = str(directory)
        raise DataError(f"cannot be made a directory: {error.strerror}", where=where) from error
    manifest = json.dumps({**wanted, "sha256": sums}, indent=1, ensure_ascii=False)
    try:
        write_text(directory / MANIFEST, manifest + "\n")
        for name, content in contents.items():
            write_bytes(directory / name, content)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(directory)) from error
    return paths


def _contents(corpus: Corpus, names: dict[str, str]) -> dict[str, bytes]:
    """The bytes of each file: a sentence a line, UTF-8, line feeds."""
    found = {}
    for split, pairs in corpus.splits().items():
        for side, name in (("source", 0), ("target", 1)):
            lines = [pair[name] + "\n" for pair in pairs]
            found[names[f"{split}.{side}"]] = "".join(lines).encode()
    return found
