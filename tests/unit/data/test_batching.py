"""Batches: each example once, the budget held, a pure function, the same with a thread ahead."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import BatchSettings, BatchSource, OverBudgetError, Pairs, PreparedData, plan
from regard.data.batching import Measure
from regard.errors import RecipeError

MEASURES: tuple[Measure, ...] = ("tokens", "padded", "sentences")

Cost = Callable[[np.ndarray], int]
COSTS: dict[str, Cost] = {
    "tokens": lambda rows: int(rows.sum()),
    "padded": lambda rows: len(rows) * int(rows.max()),
    "sentences": len,
}

lengths_of = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)


@given(
    pairs=lengths_of,
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
    budget=st.integers(80, 400),
    measure=st.sampled_from(MEASURES),
    shuffle=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_plan(
    pairs: list[tuple[int, int]],
    seed: int,
    epoch: int,
    budget: int,
    measure: Measure,
    shuffle: bool,
) -> None:
    lengths = np.array(pairs)
    before = lengths.copy()

    def make() -> list[np.ndarray]:
        return plan(
            lengths, seed=seed, epoch=epoch, budget=budget, measure=measure, shuffle=shuffle
        )

    batches = make()
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(pairs)))
    assert all(0 < COSTS[measure](lengths[batch]) <= budget for batch in batches)
    again = make()
    assert len(again) == len(batches)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    assert (lengths == before).all()


@given(pairs=lengths_of, measure=st.sampled_from(MEASURES))
@settings(max_examples=60, deadline=None)
def test_batches_are_filled_and_alike(pairs: list[tuple[int, int]], measure: Measure) -> None:
    lengths = np.array(pairs)
    batches = plan(lengths, seed=0, epoch=0, budget=100, measure=measure, shuffle=False)
    order = np.concatenate(batches)
    assert [tuple(row) for row in lengths[order]] == sorted(pairs)
    for batch, following in pairwise(batches):
        one_more = np.append(batch, following[0])
        assert COSTS[measure](lengths[one_more]) > 100  # nothing more would have fitted


@given(
    rows=st.lists(st.tuples(*[st.sampled_from([1, 2, 300, 70_000])] * 3), min_size=1, max_size=60),
    sides=st.integers(1, 3),
    epoch=st.integers(0, 9),
    shuffle=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_order_is_lexsorts(
    rows: list[tuple[int, ...]], sides: int, epoch: int, shuffle: bool
) -> None:
    """Of lengths of any size, in whatever type they are sorted."""
    lengths = np.array(rows)[:, :sides]
    batches = plan(lengths, seed=4, epoch=epoch, budget=1, measure="sentences", shuffle=shuffle)
    random = np.random.Philox(np.random.SeedSequence([4, epoch]))
    ties = random.random_raw(len(rows)) if shuffle else np.arange(len(rows))
    wanted = np.lexsort((ties, *lengths.T[::-1]))
    turn = np.argsort(random.random_raw(len(rows)), kind="stable") if shuffle else ties
    assert np.concatenate(batches).tolist() == wanted[turn].tolist()


def test_epochs_and_seeds_differ() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, (500, 2))
    plans = {
        tuple(np.concatenate(plan(lengths, seed=s, epoch=e, budget=300)).tolist())
        for s in range(2)
        for e in range(3)
    }
    assert len(plans) == 6
    fixed = {
        tuple(np.concatenate(plan(lengths, seed=s, epoch=e, budget=300, shuffle=False)).tolist())
        for s in range(2)
        for e in range(3)
    }
    assert len(fixed) == 1


def test_plan_is_the_same_for_ever() -> None:
    """Written down, so that a new numpy or an edit that changes every old run is noticed."""
    lengths = np.array([[3, 4], [5, 1], [3, 4], [9, 9], [2, 2], [3, 4], [5, 5], [1, 1]])
    batches = plan(lengths, seed=7, epoch=3, budget=20)
    assert [batch.tolist() for batch in batches] == PINNED


PINNED = [[5, 1], [3], [6], [7, 4, 0, 2]]


def test_no_examples() -> None:
    assert plan(np.zeros((0, 2), dtype=np.int64), seed=0, epoch=0, budget=5) == []


def test_one_side() -> None:
    batches = plan(np.array([3, 1, 2]), seed=0, epoch=0, budget=3, shuffle=False)
    assert [batch.tolist() for batch in batches] == [[1, 2], [0]]


def test_wrong_measure() -> None:
    with pytest.raises(RecipeError, match="batch_measure"):
        plan(np.ones((2, 2)), seed=0, epoch=0, budget=9, measure="words")  # type: ignore[arg-type]


def test_planning_a_million_is_a_matter_of_seconds() -> None:
    lengths = np.random.default_rng(0).integers(1, 80, (1_000_000, 2))
    start = time.perf_counter()
    assert len(plan(lengths, seed=0, epoch=0, budget=4096, measure="padded")) > 1000
    assert time.perf_counter() - start < 10


def make_data(count: int = 200, seed: int = 0) -> PreparedData:
    rng = np.random.default_rng(seed)
    rows = {
        name: [rng.integers(4, 50, n).tolist() for n in rng.integers(1, 15, count)]
        for name in ("source", "target")
    }
    return PreparedData.in_memory(rows, file="train.en")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("measure", MEASURES)
def test_source_holds_the_budget_with_special_tokens(measure: Measure) -> None:
    budget = 8 if measure == "sentences" else 120
    source = BatchSource(make_data(), Pairs(), BatchSettings(budget, measure, seed=3))
    seen = []
    for k in range(source.num_micro_batches(0)):
        batch = source.micro_batch(0, k)
        rows, width = batch["source_ids"].shape
        real = int(batch["source_mask"].sum() + batch["target_mask"][:, 1:].sum())
        cost = {
            "tokens": real,
            "padded": rows * max(width, batch["target_ids"].shape[1] - 1),
            "sentences": rows,
        }[measure]
        assert cost <= budget
        assert real == source.tokens(0)[k].sum()
        seen += batch["example"].tolist()
    assert sorted(seen) == list(range(200))
    with pytest.raises(IndexError):
        source.micro_batch(0, source.num_micro_batches(0))


def test_micro_batches_are_pure_and_a_thread_changes_nothing() -> None:
    data = make_data()
    plain = BatchSource(data, Pairs(), BatchSettings(150, seed=1))
    ahead = BatchSource(data, Pairs(), BatchSettings(150, seed=1, prefetch=3))
    for epoch in range(3):
        assert plain.num_micro_batches(epoch) == ahead.num_micro_batches(epoch)
        for k in range(plain.num_micro_batches(epoch)):
            assert equal(plain.micro_batch(epoch, k), ahead.micro_batch(epoch, k))
    rng = np.random.default_rng(0)
    for epoch, part in zip(rng.integers(0, 6, 30).tolist(), rng.random(30), strict=True):
        k = int(part * plain.num_micro_batches(epoch))  # any order, any epoch
        assert equal(plain.micro_batch(epoch, k), ahead.micro_batch(epoch, k))
    ahead.close()
    assert equal(plain.micro_batch(0, 0), ahead.micro_batch(0, 0))
    ahead.close()


def test_thread_hands_on_its_errors() -> None:
    class Failing(Pairs):
        def __call__(self, data: PreparedData, rows: np.ndarray) -> dict[str, torch.Tensor]:
            if 17 in rows:
                raise ValueError("row 17")
            return {}

    source = BatchSource(make_data(), Failing(), BatchSettings(4, "sentences", prefetch=2))
    bad = next(k for k, rows in enumerate(source.plan(0)) if 17 in rows)
    for k in range(bad):
        source.micro_batch(0, k)
    with pytest.raises(ValueError, match="row 17"):
        source.micro_batch(0, bad)
    source.close()


def test_too_large_example_is_named() -> None:
    data = PreparedData.in_memory(
        {"source": [[4], [4] * 30, [4]], "target": [[5], [5] * 9, [5]]}, file="train.en"
    )
    with pytest.raises(
        OverBudgetError, match=r"train\.en:2: one example needs 41 tokens"
    ) as caught:
        BatchSource(data, Pairs(), BatchSettings(40))
    assert "training.batch_tokens" in str(caught.value)
    BatchSource(data, Pairs(), BatchSettings(41))


def test_worst_and_describe() -> None:
    source = BatchSource(make_data(), Pairs(), BatchSettings(150, "padded", seed=1))
    sizes = []
    for k in range(source.num_micro_batches(0)):
        batch = source.micro_batch(0, k)
        sizes.append(batch["source_ids"].numel() + batch["target_ids"][:, 1:].numel())
    assert sizes[source.worst(0)] == max(sizes)
    batch = source.micro_batch(0, 0)
    first = int(batch["example"][0])
    assert source.describe(batch)[0] == f"train.en:{first + 1}"


def test_validation_order_is_fixed() -> None:
    source = BatchSource(make_data(), Pairs(), BatchSettings(150, shuffle=False))
    assert equal(source.micro_batch(0, 2), source.micro_batch(9, 2))


def test_pairs() -> None:
    data = PreparedData.in_memory(
        {"source": [[4, 5, 6], [7], [8, 9]], "target": [[10], [11, 12], [13, 14, 15, 16]]}
    )
    batch = Pairs()(data, np.array([2, 0]))
    assert batch["source_ids"].tolist() == [[8, 9, 2, 0], [4, 5, 6, 2]]
    assert batch["source_mask"].tolist() == [[True] * 3 + [False], [True] * 4]
    assert batch["target_ids"].tolist() == [[1, 13, 14, 15, 16, 2], [1, 10, 2, 0, 0, 0]]
    assert batch["target_mask"].tolist() == [[True] * 6, [True] * 3 + [False] * 3]
    assert batch["example"].tolist() == [2, 0]
    assert batch["source_ids"].dtype == torch.int64
    assert batch["source_mask"].dtype == torch.bool


@given(
    rows=st.lists(st.lists(st.integers(4, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    pad=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_collating_equals_the_plain_way(rows: list[list[int]], pad: int) -> None:
    data = PreparedData.in_memory({"source": rows, "target": rows[::-1]})
    batch = Pairs(pad_id=pad)(data, np.arange(len(rows)))
    width = max(map(len, rows)) + 1
    assert batch["source_ids"].tolist() == [
        [*row, 2] + [pad] * (width - len(row) - 1) for row in rows
    ]
    assert batch["target_ids"].tolist() == [
        [1, *row, 2] + [pad] * (width - len(row) - 1) for row in rows[::-1]
    ]
