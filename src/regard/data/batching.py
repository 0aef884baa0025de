"""Batches: an epoch's micro-batches are a pure function of lengths, seed, epoch and budget."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from regard.data.prepared import PreparedData
from regard.errors import DataError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    Batch = dict[str, Tensor]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.integer[Any]]
"""Whole numbers in as few bytes as hold them: there are as many as examples."""
Measure = Literal["tokens", "padded", "sentences"]

_PLANS_KEPT = 2


def plan(
    lengths: Numbers,
    *,
    seed: int,
    epoch: int,
    budget: int,
    measure: Measure = "tokens",
    shuffle: bool = True,
) -> list[Numbers]:
    """The micro-batches of an epoch: every example once, alike lengths together.

    Examples are sorted by the first side, then the next, ties broken at random, cut where the
    budget is full, and the batches put in a random order (fairseq's way; the ties are drawn anew
    at every epoch). Only raw Philox output is used, which numpy keeps for ever.

    Args:
        lengths: ``[N, sides]`` tokens of each side, special tokens included.
        seed: of the run, not negative.
        epoch: counted from 0.
        budget: what a batch holds at most.
        measure: ``tokens``: real tokens of all sides; ``padded``: sentences × longest side
            (fairseq's ``--max-tokens``); ``sentences``: examples.
        shuffle: False: ties and batches keep their order, whatever seed and epoch.

    Returns:
        example numbers of each batch, each ``[B]``.

    Raises:
        DataError: one example alone is above the budget (``number`` names it).
    """
    if measure not in get_args(Measure):
        raise RecipeError(
            f"unknown measure {measure!r}",
            where="training.batch_measure",
            hint=f"known: {', '.join(get_args(Measure))}",
        )
    if not len(lengths):
        return []
    lengths = _narrow(np.asarray(lengths)).reshape(len(lengths), -1)
    cost = _single_costs(lengths, measure)
    if cost.max() > budget:
        raise OverBudgetError(int(cost.argmax()), int(cost.max()), budget)
    random = np.random.Philox(np.random.SeedSequence([seed, epoch]))
    ties = random.random_raw(len(lengths)) if shuffle else None
    order = _sorted(lengths, ties)
    del ties
    batches = np.split(order, _cuts(cost[order], budget, measure))
    if shuffle:
        turn = np.argsort(random.random_raw(len(batches)), kind="stable")
        batches = [batches[i] for i in turn]
    return batches


def _sorted(lengths: Numbers, ties: npt.NDArray[np.uint64] | None) -> Numbers:
    """Example numbers by the first side, then the next, then the ties, then by themselves.

    What `numpy.lexsort` gives, in a fraction of its time and memory: short integers are sorted by
    counting.
    """
    order: Numbers = np.arange(len(lengths)) if ties is None else np.argsort(ties, kind="stable")
    order = _narrow(order)
    for side in lengths.T[::-1]:
        order = order[np.argsort(side[order], kind="stable")]
    return order


def _narrow(numbers: Numbers) -> Numbers:
    """The same numbers, none negative, in fewer bytes where they fit."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))), copy=False)


class OverBudgetError(DataError):
    """One example alone does not fit into a batch; ``number`` is its place in the data."""

    def __init__(self, number: int, cost: int, budget: int, origin: str | None = None) -> None:
        super().__init__(
            f"one example needs {cost:,} tokens, more than the {budget:,} of a whole batch",
            where=origin or f"example {number}",
            hint="raise training.batch_tokens, or lower data.max_length",
        )
        self.number, self.cost, self.budget = number, cost, budget


def _single_costs(lengths: Numbers, measure: Measure) -> Numbers:
    if measure == "sentences":
        return np.ones(len(lengths), dtype=np.uint8)
    if measure == "tokens":
        return np.asarray(lengths.sum(axis=1, dtype=np.int64))
    return np.asarray(lengths.max(axis=1))


def _cuts(cost: Numbers, budget: int, measure: Measure) -> list[int]:
    """Where batches begin, but the first, filling each as far as it goes."""
    if measure == "sentences":
        return list(range(budget, len(cost), budget))
    cuts: list[int] = []
    start = 0
    total = np.cumsum(cost, dtype=np.int64) if measure == "tokens" else cost
    while True:
        if measure == "tokens":
            before = total[start - 1] if start else 0
            start = int(np.searchsorted(total, before + budget, side="right"))
        else:
            # Costs only grow from cost[start], so no more than this many can fit.
            window = cost[start : start + budget // max(int(cost[start]), 1)]
            padded = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
            start += int(np.searchsorted(padded, budget, side="right"))
        if start >= len(cost):
            return cuts
        cuts.append(start)


class Collate(Protocol):
    """How examples become a batch."""

    def lengths(self, data: PreparedData) -> Ints:
        """Tokens of each side of each example as the model gets them [N, sides]."""
        ...

    def __call__(self, data: PreparedData, rows: Ints) -> Batch:
        """The batch of some of them; ``example`` [B] says which of the data they are."""
        ...


@runtime_checkable
class Varying(Protocol):
    """A collate whose training batches differ from epoch to epoch, as with pictures changed."""

    def drawn(self, data: PreparedData, rows: Ints, *, seed: int, epoch: int) -> Batch:
        """The batch of some examples, a pure function of these arguments."""
        ...


@dataclass(frozen=True)
class BatchSettings:
    """How examples become micro-batches; ``plan`` says more.

    Attributes:
        budget: what a micro-batch holds at most, in the measure.
        measure: ``tokens``, ``padded`` or ``sentences``.
        seed: of the run.
        shuffle: whether epochs differ.
        prefetch: how many micro-batches are made ahead; changes no result.
        threads: that make them.
    """

    budget: int
    measure: Measure = "tokens"
    seed: int = 0
    shuffle: bool = True
    prefetch: int = 0
    threads: int = 1


class BatchSource:
    """What the training loop sees: micro-batch k of an epoch, the same whenever it is asked for.

    Args:
        data: the prepared examples.
        collate: makes the batch of some examples.
        settings: budget, measure, seed.
        choose: which examples an epoch has, [N]; None: each once.

    Raises:
        DataError: an example alone is above the budget; the error names its file and line.
    """

    def __init__(
        self,
        data: PreparedData,
        collate: Collate,
        settings: BatchSettings,
        choose: Callable[[int], Ints] | None = None,
    ) -> None:
        self.data = data
        self.choose = choose
        self.collate = collate
        self.settings = settings
        self.lengths = _narrow(collate.lengths(data))
        self._plans: dict[int, list[Numbers]] = {}
        self._ahead: dict[tuple[int, int], Future[Batch]] = {}
        self._worker: ThreadPoolExecutor | None = None
        self.plan(0)

    def plan(self, epoch: int) -> list[Numbers]:
        """The example numbers of an epoch's micro-batches."""
        key = epoch if self.settings.shuffle else 0
        found = self._plans.get(key)
        if found is None:
            found = self._make_plan(key)
            kept = sorted(self._plans.items(), key=lambda item: item[0])[-(_PLANS_KEPT - 1) :]
            self._plans = {**dict(kept), key: found}
        return found

    def _make_plan(self, epoch: int) -> list[Numbers]:
        settings, rows = self.settings, None if self.choose is None else self.choose(epoch)
        try:
            batches = plan(
                self.lengths if rows is None else self.lengths[rows],
                seed=settings.seed,
                epoch=epoch,
                budget=settings.budget,
                measure=settings.measure,
                shuffle=settings.shuffle,
            )
        except OverBudgetError as error:
            number = error.number if rows is None else int(rows[error.number])
            (origin,) = self.describe(self.collate(self.data, np.array([number])))
            raise OverBudgetError(number, error.cost, error.budget, origin) from None
        return batches if rows is None else [rows[batch] for batch in batches]

    def num_micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has."""
        return len(self.plan(epoch))

    def micro_batch(self, epoch: int, k: int) -> Batch:
        """Micro-batch k of an epoch, a pure function of the two.

        Raises:
            IndexError: the epoch has no such micro-batch.
        """
        if not 0 <= k < self.num_micro_batches(epoch):
            raise IndexError(f"epoch {epoch} has no micro-batch {k}")
        future = self._ahead.pop((epoch, k), None)
        self._fetch_ahead(epoch, k)
        return future.result() if future is not None else self._make(epoch, k)

    def worst(self, epoch: int = 0) -> int:
        """The micro-batch with the most padded tokens: what memory has to hold."""
        batches = self.plan(epoch)
        return int(np.argmax([len(b) * self.lengths[b].max(axis=0).sum() for b in batches]))

    def tokens(self, epoch: int = 0) -> Ints:
        """Real tokens of each side, special ones included, in each micro-batch ``[K, sides]``."""
        sums = [self.lengths[batch].sum(axis=0, dtype=np.int64) for batch in self.plan(epoch)]
        return np.stack(sums)

    def describe(self, batch: Batch) -> list[str]:
        """Where the examples of a batch come from: ``file:line`` each."""
        return [self.data.origin(i) for i in batch["example"].tolist()]

    def close(self) -> None:
        """Stop the thread that works ahead, if there is one; the source can go on being used."""
        self._ahead.clear()
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None

    def _make(self, epoch: int, k: int) -> Batch:
        rows, settings = self.plan(epoch)[k].astype(np.int64), self.settings
        if settings.shuffle and isinstance(self.collate, Varying):
            return self.collate.drawn(self.data, rows, seed=settings.seed, epoch=epoch)
        return self.collate(self.data, rows)

    def _fetch_ahead(self, epoch: int, k: int) -> None:
        count = self.settings.prefetch
        if not count:
            return
        if self._worker is None:
            threads = self.settings.threads
            self._worker = ThreadPoolExecutor(threads, thread_name_prefix="regard-batches")
        wanted: list[tuple[int, int]] = []
        total = self.num_micro_batches(epoch)
        for n in range(k + 1, k + 1 + count):
            wanted.append((epoch, n) if n < total else (epoch + 1, n - total))
        known = {key: self._ahead[key] for key in wanted if key in self._ahead}
        for key in wanted:
            if key not in known:
                known[key] = self._worker.submit(self._make_if_there, *key)
        self._ahead = known

    def _make_if_there(self, epoch: int, k: int) -> Any:
        # Planning of the next epoch, too, happens here, while the last steps of this one run.
        return self._make(epoch, k) if k < len(self.plan(epoch)) else None
