"""Law: a rule's forms agree with its definition, slot by slot."""

import operator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from regard.nn import (
    Causal,
    Documents,
    Explicit,
    Full,
    Padding,
    Prefix,
    Rule,
    as_rule,
    prepare,
)

CPU = torch.device("cpu")


@dataclass
class Drawn:
    """A rule, and the question "may query slot i of row b see key slot j" answered by itself."""

    rule: Rule
    answer: Any
    queries: int
    keys: int
    offset: int
    rows: int

    def truth(self, rows=None):
        rows = range(self.rows) if rows is None else rows
        slots = range(self.offset, self.offset + self.queries)
        return torch.tensor(
            [[[self.answer(b, i, j) for j in range(self.keys)] for i in slots] for b in rows]
        ).bool()

    def table(self, rule=None):
        slots = torch.arange(max(self.keys, self.offset + self.queries))
        queries = slots[self.offset : self.offset + self.queries]
        allowed = (self.rule if rule is None else rule).allows(queries, slots[: self.keys])
        assert allowed.dtype == torch.bool
        assert allowed.ndim == 4
        assert allowed.shape[1] == 1
        return allowed[:, 0]


@st.composite
def drawn_rules(draw):
    queries, keys = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    offset, rows = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    slots = max(keys, offset + queries)

    def numbers(count, high):
        return draw(st.lists(st.integers(0, high), min_size=count, max_size=count))

    def leaf():
        kind = draw(st.sampled_from(["full", "causal", "padding", "prefix", "documents", "table"]))
        if kind == "full":
            return Full(), lambda b, i, j: True
        if kind == "causal":
            return Causal(), lambda b, i, j: j <= i
        if kind == "padding":
            real = torch.tensor(numbers(rows * keys, 1)).bool().view(rows, keys)
            return Padding(real), lambda b, i, j: bool(real[b, j])
        if kind == "prefix":
            lengths = torch.tensor(numbers(rows, keys))
            return Prefix(lengths), lambda b, i, j: j < int(lengths[b])
        if kind == "documents":
            ids = torch.tensor(numbers(rows * slots, 2)).view(rows, slots)
            return Documents(ids), lambda b, i, j: bool(ids[b, i] == ids[b, j])
        seen = torch.tensor(numbers(rows * queries * keys, 1)).bool().view(rows, queries, keys)
        return Explicit(seen), lambda b, i, j: bool(seen[b, i - offset, j])

    def tree(depth):
        if depth == 0 or draw(st.booleans()):
            return leaf()
        (first, one), (second, two) = tree(depth - 1), tree(depth - 1)
        if draw(st.booleans()):
            return first & second, lambda b, i, j: one(b, i, j) and two(b, i, j)
        return first | second, lambda b, i, j: one(b, i, j) or two(b, i, j)

    rule, answer = tree(draw(st.integers(0, 3)))
    return Drawn(rule, answer, queries, keys, offset, rows)


@settings(max_examples=400)
@given(drawn_rules())
def test_every_form_is_the_definition(drawn):
    truth = drawn.truth()
    assert torch.equal(drawn.table().expand_as(truth), truth)
    form = prepare(drawn.rule, drawn.queries, drawn.keys, device=CPU, offset=drawn.offset)
    assert (form.queries, form.keys) == (drawn.queries, drawn.keys)
    if form.allowed is None:
        assert truth.all()
    else:
        assert torch.equal(form.allowed[:, 0].expand_as(truth), truth)
    blind = ~truth.any(-1, keepdim=True)
    if form.blind is None:
        assert not blind.any()
    else:
        assert torch.equal(form.blind[:, 0].expand_as(blind), blind)
    for dtype in (torch.float32, torch.bfloat16):
        additive = form.additive(dtype)
        if additive is None:
            assert truth.all()
        else:
            assert additive.dtype == dtype
            assert torch.equal(additive[:, 0].expand_as(truth) == 0, truth)
            assert additive.isfinite().all()


@given(drawn_rules(), st.data())
def test_rows_are_selected_in_their_order(drawn, data):
    rows = data.draw(st.lists(st.integers(0, drawn.rows - 1), min_size=1, max_size=4))
    truth = drawn.truth(rows)
    table = drawn.table(drawn.rule.select(torch.tensor(rows)))
    assert torch.equal(table.expand_as(truth), truth)


@given(drawn_rules())
def test_rules_are_trees_of_tensors(drawn):
    leaves, spec = pytree.tree_flatten(drawn.rule)
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    again = pytree.tree_unflatten([leaf.clone() for leaf in leaves], spec)
    assert torch.equal(drawn.table(again), drawn.table())
    moved = drawn.rule.to("cpu")
    assert type(moved) is type(drawn.rule)
    assert torch.equal(drawn.table(moved), drawn.table())
    meta, _ = pytree.tree_flatten(drawn.rule.to("meta"))
    assert all(leaf.device.type == "meta" for leaf in meta)


def test_full_is_neutral_or_everything():
    rule = Causal()
    assert (Full() & rule) is rule
    assert (rule & Full()) is rule
    assert isinstance(Full() | rule, Full)
    assert isinstance(rule | Full(), Full)


def test_the_cheapest_form_is_chosen():
    real = torch.ones(2, 4, dtype=torch.bool)
    assert prepare(Full(), 3, 4, device=CPU).kind == "none"
    assert prepare(Padding(real), 3, 4, device=CPU).kind == "none"
    assert prepare(Causal(), 4, 4, device=CPU).kind == "causal"
    assert prepare(Causal(), 1, 4, device=CPU, offset=3).kind == "none"
    assert prepare(Causal(), 2, 4, device=CPU, offset=2).kind == "dense"
    assert prepare(Causal() & Causal(), 4, 4, device=CPU).kind == "dense"


def test_masks_as_users_hand_them_over():
    real = torch.tensor([[True, False]])
    assert isinstance(as_rule(None), Full)
    assert as_rule(real).real is real
    rule = Causal()
    assert as_rule(rule) is rule


@pytest.mark.parametrize("combine", [operator.and_, operator.or_])
def test_rules_are_never_compared_or_hashed_by_value(combine):
    real = torch.ones(1, 2).bool()
    assert combine(Padding(real), Causal()) != combine(Padding(real), Causal())
    assert Padding(real) != Padding(real)
