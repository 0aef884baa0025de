"""Blocks: a stream of tokens cut into pieces of one length, for language models.

Shapes: ids, documents and counted [B, T + 1], T the length of a block.

The examples of prepared data stand end to end. Where each is a document of its own, a separator
stands before it: from it the document's first token is predicted, and it is what follows the last
one. Where the data have a second column, it says of each token whether it counts as a label, 1 or
0; a separator does not count then. An epoch's blocks are a pure function of (length of the stream,
seed, epoch): the first begins at a place drawn anew, so that no cut stays where it is, and the
order is drawn too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from regard.data.prepared import PreparedData
from regard.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    Batch = dict[str, Tensor]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BlockSettings:
    """How a stream becomes micro-batches.

    Attributes:
        length: T, tokens that a block has to predict.
        count: blocks of a micro-batch.
        separator: id before each document; None where the examples are one text.
        seed: of the run.
        shuffle: False: every block from the beginning, in order, the last shorter one too.
    """

    length: int
    count: int
    separator: int | None = None
    seed: int = 0
    shuffle: bool = True


class BlockSource:
    """Micro-batch k of an epoch, the same whenever it is asked for; `BatchSource`'s face.

    Raises:
        DataError: the text is shorter than a block.
    """

    def __init__(self, data: PreparedData, settings: BlockSettings) -> None:
        self.data = data
        self.settings = settings
        self.column = data.column(data.columns[0])
        self._counted = data.column(data.columns[1]).ids if len(data.columns) > 1 else None
        apart = settings.separator is not None
        documents = len(data) if apart else 1
        offsets = self.column.offsets
        self._starts: Ints = offsets[:-1] + np.arange(documents) if apart else offsets[:1]
        self._plans: dict[int, list[Ints]] = {}
        self._sums: Ints | None = None
        self.length = int(offsets[-1]) + (documents if apart else 0)
        if self.length < (settings.length if settings.shuffle else 1) + 1:
            raise DataError(
                f"the text has {self.length:,} tokens, a block takes {settings.length + 1:,}",
                where=data.origin(0),
                hint="give more text, or lower model.max_positions",
            )

    def plan(self, epoch: int) -> list[Ints]:
        """Where the blocks of each micro-batch begin in the stream, each [B]."""
        if epoch not in self._plans:
            self._plans = {epoch: self._make_plan(epoch)}
        return self._plans[epoch]

    def _make_plan(self, epoch: int) -> list[Ints]:
        settings = self.settings
        if not settings.shuffle:
            # Each alone where it is shorter: the last one.
            starts = np.arange(0, self.length - 1, settings.length)
            whole = starts[starts + settings.length < self.length]
            cuts = range(settings.count, len(whole), settings.count)
            batches = np.split(whole, cuts) if len(whole) else []
            return [*batches, starts[-1:]] if len(whole) < len(starts) else batches
        random = np.random.Philox(np.random.SeedSequence([settings.seed, epoch]))
        room = min(settings.length, self.length - settings.length)
        first = int(random.random_raw() % np.uint64(room))
        starts = np.arange(first, self.length - settings.length, settings.length)
        starts = starts[np.argsort(random.random_raw(len(starts)), kind="stable")]
        return np.split(starts, range(settings.count, len(starts), settings.count))

    def num_micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has."""
        return len(self.plan(epoch))

    def micro_batch(self, epoch: int, k: int) -> Batch:
        """Micro-batch k of an epoch, a pure function of the two."""
        import torch

        starts = self.plan(epoch)[k]
        length = min(self.settings.length, self.length - 1 - int(starts.max()))
        places = starts[:, None] + np.arange(length + 1)  # [B, T + 1]
        ids = self.stream(places)
        made = {"ids": torch.from_numpy(ids), "start": torch.from_numpy(starts)}
        documents, taken, separates = self._taken(places)
        if self._counted is not None:
            made["counted"] = torch.from_numpy(
                (self._counted[self._within(taken)] != 0) & ~separates
            )
        if bool((documents[:, :1] != documents[:, -1:]).any()):
            made["documents"] = torch.from_numpy(documents - documents[:, :1])
        return made

    def stream(self, places: Ints) -> Ints:
        """The ids at some places of the stream."""
        _, taken, separates = self._taken(places)
        ids = self.column.ids[self._within(taken)].astype(np.int64)
        if self.settings.separator is not None:
            ids[separates] = self.settings.separator
        return ids

    def _within(self, taken: Ints) -> Ints:
        """Behind the last document a separator has no token after it."""
        return np.minimum(taken, len(self.column.ids) - 1)

    def _taken(self, places: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Of places in the stream: document, place in the column, and whether it separates.

        A separator's place is that of the token after it.
        """
        documents = np.searchsorted(self._starts, places, side="right") - 1
        if self.settings.separator is None:
            return documents, places, np.zeros(places.shape, dtype=bool)
        within = places - self._starts[documents] - 1  # -1 = the separator
        taken = self.column.offsets[documents] + np.maximum(within, 0)
        return documents, taken, within < 0

    def worst(self, epoch: int = 0) -> int:
        """The micro-batch that takes most memory: the one with most labels."""
        return int(self.tokens(epoch)[:, 0].argmax())

    def tokens(self, epoch: int = 0) -> Ints:
        """Tokens to predict in each micro-batch [K, 1]."""
        before, length = self._labels_before, self.settings.length
        ends = (np.minimum(starts + length + 1, self.length) for starts in self.plan(epoch))
        pairs = zip(self.plan(epoch), ends, strict=True)
        return np.array([[int((before(end) - before(start + 1)).sum())] for start, end in pairs])

    @property
    def labels(self) -> int:
        """Tokens to predict in the whole stream."""
        first, last = self._labels_before(np.array([1, self.length]))
        return int(last - first)

    def _labels_before(self, places: Ints) -> Ints:
        """How many tokens before each place of the stream count."""
        if self._counted is None:
            return places
        if self._sums is None:
            self._sums = np.concatenate(([0], np.cumsum(self._counted != 0)))
        return self._sums[self._taken(places)[1]]

    def describe(self, batch: Batch) -> list[str]:
        """Where the blocks of a batch begin: ``file:line`` each."""
        starts = batch["start"].numpy()
        if self.settings.separator is not None:
            examples = np.searchsorted(self._starts, starts, side="right") - 1
        else:
            examples = np.searchsorted(self.column.offsets, starts, side="right") - 1
        return [self.data.origin(int(i)) for i in examples]

    def close(self) -> None:
        """Nothing works ahead."""
