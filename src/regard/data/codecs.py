"""Codecs: what a text of a column becomes, as ids, in prepared data; a tokenizer is one of them.

Labels, numbers, and what stands beside the pieces of a text: which word each belongs to, and from
where to where it reaches.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from regard.data.prepared import Column
from regard.data.tokenizers import Tokenizer
from regard.errors import DataError
from regard.files import write_text
from regard.registry import nearest

if TYPE_CHECKING:
    from torch import Tensor

LIST = "\n"
"""What stands between the entries of a column that holds lists, such as words or their tags."""


class Codec(Protocol):
    """Texts to ids.

    A codec that takes an empty text has a true ``takes_empty``. One that makes an array sooner than
    lists has ``encode_packed``: all ids end to end, and how many each text has. ``dtype`` says how
    ids are stored, where it is not the usual type; ``lost`` what it is called when nothing comes of
    a text.
    """

    @property
    def vocab_size(self) -> int:
        """Ids lie below it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints, equal ids."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        ...


class CodecError(DataError):
    """One text cannot be encoded; ``number`` is its place among those given."""

    def __init__(
        self, what: str, number: int, hint: str | None = None, where: str | None = None
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.number = number


class Target(ABC):
    """A codec of what a model shall answer, which also makes the objective's tensor of it."""

    takes_empty: ClassVar[bool] = False

    @property
    @abstractmethod
    def vocab_size(self) -> int: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str: ...

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    @abstractmethod
    def tensor(self, rows: Sequence[npt.NDArray[Any]]) -> Tensor:
        """Prepared ids of some examples as the objective takes them, [B, …]."""


class Labels(Target):
    """One of some classes; ids follow the order of ``names``.

    White space around a name is not part of it.

    Args:
        names: of the classes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._ids = {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Self:
        """The classes that occur, numbers in their order, other names by the alphabet."""
        found = {name for text in texts for name in cls.split(text) if name}
        return cls(sorted(found, key=_by_number))

    @staticmethod
    def split(text: str) -> list[str]:
        """The names in a text: it is one."""
        return [" ".join(text.split())]

    @classmethod
    def load(cls, path: Path) -> Self:
        """From the file that `save` wrote.

        Raises:
            DataError: it is damaged.
        """
        try:
            return cls(str(name) for name in json.loads(path.read_text(encoding="utf-8"))["labels"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "this is no file of labels, or it is damaged", where=str(path)
            ) from error

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        names = {"labels": list(self.names)}
        write_text(path, json.dumps(names, ensure_ascii=False, indent=1) + "\n")

    @property
    def vocab_size(self) -> int:
        """How many there are."""
        return max(len(self.names), 1)

    @property
    def fingerprint(self) -> str:
        """Of the names in their order."""
        return _digest(type(self).__name__, *self.names)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The id of each name in a text.

        Raises:
            CodecError: for a name that is none of them.
        """
        return [[self._id(name, n) for name in self.split(text)] for n, text in enumerate(texts)]

    def _id(self, name: str, number: int) -> int:
        found = self._ids.get(name)
        if found is None:
            near = nearest(name, self.names)
            known = f"known: {', '.join(self.names[:20])}"
            raise CodecError(
                f"{name!r} is not among the labels of the training data",
                number,
                f"did you mean {near!r}? {known}" if near else known,
            )
        return found

    def tensor(self, rows: Sequence[npt.NDArray[Any]]) -> Tensor:
        """[B]."""
        import torch

        return torch.tensor([int(row[0]) for row in rows])

    def counts(self, column: Column) -> list[int]:
        """How many of each there are in prepared data."""
        return [int(n) for n in np.bincount(column.ids, minlength=len(self))]


class LabelLists(Labels):
    """A class for each entry of a list, such as the words' tags."""

    @staticmethod
    def split(text: str) -> list[str]:
        """The entries."""
        return text.split(LIST)


class LabelSets(LabelLists):
    """Any number of classes at once."""

    takes_empty = True

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each list, in order, each once."""
        return [
            sorted({self._id(name, n) for name in self.split(text) if name})
            for n, text in enumerate(texts)
        ]

    def tensor(self, rows: Sequence[npt.NDArray[Any]]) -> Tensor:
        """[B, C], 1 for each that holds."""
        import torch

        made = torch.zeros(len(rows), len(self))
        for target, row in zip(made, rows, strict=True):
            target[torch.from_numpy(row.astype(np.int64))] = 1.0
        return made


class Numbers(Target):
    """A number, kept as its 32 bits."""

    vocab_size = 1 << 32
    fingerprint = "float32"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """One id each.

        Raises:
            CodecError: for what is no finite number.
        """
        return [[self._bits(text, n)] for n, text in enumerate(texts)]

    def _bits(self, text: str, number: int) -> int:
        try:
            value = np.float32(text.strip())
        except ValueError:
            value = np.float32("nan")
        if not np.isfinite(value):
            raise CodecError(f"{text!r} is no number", number)
        return int(value.view(np.uint32))

    def tensor(self, rows: Sequence[npt.NDArray[Any]]) -> Tensor:
        """[B]."""
        import torch

        bits = np.array([row[0] for row in rows]).astype(np.uint32)
        return torch.from_numpy(bits.view(np.float32).copy())


class Words:
    """The pieces of a list of words, each as it stands after a space."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = tokenizer.vocab_size
        # Where a space is a piece of its own or part of one, words bring theirs along.
        alone = tokenizer.encode("a")
        self._before = "" if tokenizer.encode("a a") == alone * 2 else " "

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer."""
        return _digest(type(self).__name__, self.tokenizer.fingerprint)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """All words' pieces of each list, end to end."""
        return [list(chain.from_iterable(words)) for words in self.pieces(texts)]

    def pieces(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """The pieces of each word of each list; a word that has none is unknown."""
        split = [text.split(LIST) for text in texts]
        every = sorted(set(chain.from_iterable(split)))
        texts = [self._before + word for word in every]
        found = dict(zip(every, self.tokenizer.encode_batch(texts), strict=True))
        unknown = [self.tokenizer.unk_id]
        return [[found[word] or unknown for word in words] for words in split]


class WordLengths(Words):
    """How many pieces each word of a list has."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.vocab_size = 1 << 32

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """A number a word."""
        return [[len(pieces) for pieces in words] for words in self.pieces(texts)]


def column_rows(column: Column, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
    """The ids of some examples, one array each."""
    return [column.ids[column.offsets[i] : column.offsets[i + 1]] for i in rows]


def _by_number(name: str) -> tuple[bool, float, str]:
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    return (False, value, name) if math.isfinite(value) else (True, 0.0, name)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
