"""Pictures with labels: folders and archives by class, IDX files, tables of paths.

A source yields the name of each picture with its label; `PictureSource.read` gives the picture.

======================  ===========================================================================
what is met             what happens
======================  ===========================================================================
folder, zip, tar        the label is the name of the folder that directly holds the picture; a
                        picture in no folder is a ``DataError``
other files there       left out and counted, by their ending; hidden ones (``.x``, ``__MACOSX``)
                        are none of the data
folder of no picture    is named, and no class
data of another kind    ``DataError``: no picture, parts such as train/ and valid/, boxes
order                   by name in folders, as they stand in archives, tables and IDX files
table                   paths are relative to the table; a missing picture is a ``DataError`` with
                        the table's line, and so is one without a name or a label
IDX                     bytes alone, ``[N, H, W]`` or ``[N, H, W, C]``, also ``.gz`` and ``.zst``;
                        labels are their numbers; unequal counts are a ``DataError``
damaged archive         ``DataError`` with the archive and, where it is known, the member
======================  ===========================================================================

What a single picture may be is `regard.data.pictures`' matter.
"""

from __future__ import annotations

import contextlib
import lzma
import tarfile
import weakref
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.data.readers.idx import read_idx
from regard.data.readers.layout import ENDINGS, FORMS, check_layout
from regard.data.readers.lines import check_file, display_name
from regard.data.readers.source import Example, check_keys
from regard.data.readers.tables import Table, is_table
from regard.errors import DataError, RecipeError

Pixels = npt.NDArray[np.uint8]
"""A picture that needs no decoding, [H, W] or [H, W, C]."""

PICTURE, LABEL = "picture", "label"
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
NO_PICTURE = "no picture by its ending"
MOST_BYTES = 1 << 29
"""Of one member of an archive, unpacked: beyond that it is a trap."""

_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,  # a member that is encrypted, or packed in a way that Python lacks
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


class PictureSource(ABC):
    """Names of pictures with their labels; a `regard.data.Source`.

    Attributes:
        path: of the folder, archive or file.
        files, identity: see `regard.data.Source`.
        left_out: how many files were no pictures, by reason; known once all were read.
        chunk: how many pictures are prepared together.
    """

    columns = (PICTURE, LABEL)
    chunk = 64

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: tuple[Path, ...] = (path,)
        self.identity: Mapping[str, Any] = {"format": type(self).__name__}
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Example]:
        self.left_out.clear()
        for number, (name, label) in enumerate(self.named(), start=1):
            yield Example((name, label), display_name(self.path), number, self.labeled_at(name))

    @abstractmethod
    def named(self) -> Iterator[tuple[str, str]]:
        """Name and label of each picture."""

    @abstractmethod
    def read(self, name: str) -> bytes | Pixels:
        """A picture, as its file has it, or as pixels.

        Raises:
            DataError: it cannot be read.
        """

    def origin(self, name: str) -> str:
        """What errors call a picture."""
        return f"{self.path}:{name}"

    def labeled_at(self, name: str) -> str:
        """Where its label stands."""
        return self.origin(name)

    def _labeled(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Those that are pictures, each with the folder that holds it."""
        for name in names:
            path = PurePosixPath(name)
            if path.suffix.lower() not in ENDINGS:
                self.left_out[NO_PICTURE] += 1
            elif not path.parent.name:
                raise DataError(
                    "this picture stands in no folder that could be its class",
                    where=self.origin(name),
                    hint="put the pictures of each class in a folder of its name, or give a table "
                    "with the columns picture (a path) and label",
                )
            else:
                yield name, path.parent.name


class Files(PictureSource):
    """Many files, those of each class in a folder of its name."""

    def names(self) -> Iterator[str]:
        """Of all files that are not hidden."""
        return (name for name in self._members() if not _hidden(PurePosixPath(name)))

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The file's bytes."""

    @abstractmethod
    def _members(self) -> Iterable[str]:
        """Names of all files."""

    def named(self) -> Iterator[tuple[str, str]]:
        """Of the pictures, with the folders that hold them."""
        names = list(self.names())
        check_layout(str(self.path), names)
        return self._labeled(names)


class Folder(Files):
    """A folder that holds a folder of pictures for each class."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        held = [(one, one.is_dir()) for one in path.rglob("*")]
        found = (one.relative_to(path) for one, folder in held if not folder and one.is_file())
        self._names = sorted(one.as_posix() for one in found)
        used = {one.parent for one, folder in held if folder or one.suffix.lower() in ENDINGS}
        empty = (one.relative_to(path) for one, folder in held if folder and one not in used)
        self._empty = sorted(one.as_posix() for one in empty if not _hidden(one))
        if self._empty:  # which the files' bytes do not tell
            self.identity = {**self.identity, "empty": self._empty}

    def named(self) -> Iterator[tuple[str, str]]:
        """Of the pictures, with the folders that hold them; counts folders that hold none."""
        self.left_out.update(f"folder without a picture: {name}" for name in self._empty)
        return super().named()

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return _read(self.path / name)

    def origin(self, name: str) -> str:
        """Its path."""
        return str(self.path / name)

    def _members(self) -> Iterable[str]:
        return self._names  # in their order


class Zip(Files):
    """A zip archive of such folders."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive: zipfile.ZipFile | None = None

    def read(self, name: str) -> bytes:
        """The member's bytes."""
        archive = self._opened()
        with _damage(self.origin(name)):
            _check_size(archive.getinfo(name).file_size, self.origin(name))
            return archive.read(name)

    def _members(self) -> Iterable[str]:
        return (one.filename for one in self._opened().infolist() if not one.is_dir())

    def _opened(self) -> zipfile.ZipFile:
        if self._archive is None:
            with _damage(str(self.path)):
                self._archive = zipfile.ZipFile(self.path)
        return self._archive


class Tar(Files):
    """A tar archive of such folders, packed or not; nothing is ever unpacked to disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive: tarfile.TarFile | None = None
        self._held: dict[str, tarfile.TarInfo] = {}

    def read(self, name: str) -> bytes:
        """The member's bytes."""
        member = self._members()[name]
        with _damage(self.origin(name)):
            _check_size(member.size, self.origin(name))
            file = self._opened().extractfile(member)
            held = b"" if file is None else file.read()
            if len(held) != member.size:
                raise EOFError("the archive ends before this member does")
            return held

    def _members(self) -> Mapping[str, tarfile.TarInfo]:
        if not self._held:
            archive = self._opened()
            with _damage(str(self.path)):
                found = [one for one in archive.getmembers() if one.isfile()]
            self._held = {one.name.removeprefix("./"): one for one in found}
        return self._held

    def _opened(self) -> tarfile.TarFile:
        if self._archive is None:
            with _damage(str(self.path)):
                try:
                    self._archive = tarfile.open(self.path)  # noqa: SIM115 (with the source)
                except tarfile.ReadError as error:  # its own words are a line for each packing
                    raise tarfile.ReadError("it is no tar archive, packed or not") from error
            weakref.finalize(self, self._archive.close)
        return self._archive


class Idx(PictureSource):
    """Pictures and labels in two IDX files, MNIST's format (LeCun et al., 1998)."""

    def __init__(self, pictures: Path, labels: Path) -> None:
        super().__init__(pictures)
        self.files = (pictures, labels)
        self._pictures: Pixels | None = None

    def named(self) -> Iterator[tuple[str, str]]:
        """Their numbers, from 1."""
        pictures, labels = self._held(), read_idx(self.files[1])
        if labels.ndim != 1 or len(labels) != len(pictures):
            counts = f"{len(pictures):,} pictures for {len(labels):,} labels"
            raise DataError(f"{counts} of {labels.ndim} dimensions", where=str(self.files[1]))
        for number, label in enumerate(labels.tolist(), start=1):
            yield str(number), str(label)

    def read(self, name: str) -> Pixels:
        """The picture of a number."""
        found: Pixels = self._held()[int(name) - 1]
        return found

    def labeled_at(self, name: str) -> str:
        """In the other file."""
        return f"{self.files[1]}:{name}"

    def _held(self) -> Pixels:
        if self._pictures is None:
            self._pictures = read_idx(self.path)
            if self._pictures.ndim not in (3, 4):
                raise DataError(
                    f"pictures have 3 dimensions or 4, not {self._pictures.ndim}",
                    where=str(self.path),
                    hint="data.*.source names the pictures, data.*.target their labels",
                )
        return self._pictures


class PictureTable(PictureSource):
    """A table with a column of paths and one of labels."""

    def __init__(self, path: Path, fields: Mapping[str, str | int]) -> None:
        super().__init__(path)
        self._table = Table(path, fields)
        self._lines: dict[str, int] = {}
        self.identity = {"format": type(self).__name__, **self._table.identity}
        for number, (name, _) in enumerate(self.named(), start=1):
            self._lines.setdefault(name, number)
        self.files = (path, *sorted({self._place(name) for name in self._lines}))

    def __iter__(self) -> Iterator[Example]:
        yield from (one for one in self._table if any(field.strip() for field in one.fields))

    def named(self) -> Iterator[tuple[str, str]]:
        """As the table has them."""
        for one in self:
            for column, field in zip(self.columns, one.fields, strict=True):
                if not field.strip():
                    what, hint = f"the row has no {column}", "fill it in, or leave the row out"
                    raise DataError(what, where=one.origin, hint=hint)
            check_file(self._place(one.fields[0]), one.origin)
            yield one.fields[0], one.fields[1]

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return _read(self._place(name))

    def origin(self, name: str) -> str:
        """Its path."""
        return str(self._place(name))

    def _place(self, name: str) -> Path:
        return self.path.parent / name.strip()


def open_pictures(data: Mapping[str, Any]) -> PictureSource:
    """The source that a recipe's ``data.train``, ``data.valid`` or ``data.test`` describes.

    Args:
        data: ``{"file": F}`` with F a folder, a zip or tar archive, or a table (``fields`` may say
            its columns ``picture`` and ``label``); or ``{"source": F, "target": F}``, IDX files of
            pictures and of labels.

    Raises:
        RecipeError: an unknown or missing key.
        DataError: a file is missing or of an unknown kind.
    """
    if "file" not in data:
        check_keys(data, ("file", "fields", "source", "target"), missing=False)
        if not {"source", "target"} <= data.keys() or Path(str(data["source"])).is_dir():
            raise RecipeError(
                "file is needed, or source and target as IDX files", where="data", hint=FORMS
            )
        check_keys(data, ("source", "target"), missing=True)
        return Idx(check_file(data["source"]), check_file(data["target"]))
    check_keys(data, ("file", "fields"), missing=False)
    path, fields = Path(str(data["file"])), data.get("fields")
    if fields is not None and not is_table(path):
        raise RecipeError(
            "fields name the columns of a table, and this is none",
            where=str(path),
            hint="leave fields out: the label is the name of the folder that holds a picture",
        )
    if not is_table(path) and (found := files_of(path)) is not None:
        return found
    path = check_file(path)
    if not is_table(path):
        boxes = path.suffix.lower() == ".json"
        raise DataError(
            "the kind of these pictures cannot be told from the name",
            where=str(path),
            hint='COCO\'s boxes are for task = "object-detection"' if boxes else FORMS,
        )
    fields = fields or {name: name for name in PictureSource.columns}
    check_keys(fields, PictureSource.columns, missing=True)
    return PictureTable(path, {name: fields[name] for name in PictureSource.columns})


def files_of(path: Path) -> Files | None:
    """A folder or archive; None where it is neither.

    Raises:
        DataError: it is missing.
    """
    if path.is_dir():
        return Folder(path)
    name = check_file(path).name.lower()
    if name.endswith(".zip"):
        return Zip(path)
    return Tar(path) if name.endswith(TARS) else None


def _hidden(path: PurePath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _read(path: Path) -> bytes:
    with _damage(str(path)):
        return path.read_bytes()


def _check_size(size: int, where: str) -> None:
    if size > MOST_BYTES:
        raise DataError(f"this member has {size:,} bytes: no picture has so many", where=where)


@contextlib.contextmanager
def _damage(where: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        what = getattr(error, "strerror", None) or error
        raise DataError(f"this cannot be read: {what}", where=where) from error
