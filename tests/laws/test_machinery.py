"""The machinery of the laws: pairs are covered, and a registry line is all that a kind needs."""

import itertools

import pytest

from regard import registry

from . import _cases
from ._cases import axes, builds, families, kinds, make_case, pairwise, with_new_values

PARTS = ("positions", "activations", "feed_forwards", "norms", "patterns")


def test_pairwise_covers_every_possible_pair():
    choices = {"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2], "d": [1, 2, 3, 4]}

    def valid(row):
        return not (row["a"] == 1 and row["d"] == 2) and not (row["c"] == 2 and row["b"] == 3)

    rows = pairwise(choices, valid)
    assert all(map(valid, rows))
    assert len(rows) <= 20
    for (a, x), (b, y) in itertools.combinations(
        [(key, value) for key, values in choices.items() for value in values], 2
    ):
        if a != b:
            met = any(row[a] == x and row[b] == y for row in rows)
            impossible = {(a, x), (b, y)} in ({("a", 1), ("d", 2)}, {("b", 3), ("c", 2)})
            assert met != impossible


def test_what_met_before_need_not_meet_again():
    choices = {"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2]}
    met = set()
    first = pairwise(choices, lambda row: True, met)
    assert len(pairwise(choices, lambda row: True, met)) == 3  # each value once
    more = pairwise({**choices, "d": [1, 2, 3]}, lambda row: True, met)
    assert len(first) <= len(more) <= 10
    for key, x, y in itertools.product("abc", (1, 2), (1, 2, 3)):
        assert any(row[key] == x and row["d"] == y for row in more)


def test_without_pairs_each_value_is_still_tried():
    cases = _cases.coverings()
    kept = [cases[name][number] for name, number in with_new_values(cases)]
    tried = {f"{key}={value}" for case in kept for key, value in case.changes}
    for case in itertools.chain(*cases.values()):
        assert {f"{key}={value}" for key, value in case.changes} <= tried
    assert {case.kernel for case in kept} == set(registry.names("kernels"))
    assert {case.family.name for case in kept} == set(families())
    assert len(kept) < sum(map(len, cases.values())) / 2


@pytest.mark.parametrize("name", families())
def test_every_kind_of_every_part_stands_under_the_laws(name):
    family, cases = registry.family(name), _cases.coverings()[name]
    text = " ".join(map(repr, cases)) + repr(family.tiny())
    for group in PARTS:
        for kind in registry.names(group):
            assert kind in text, f"{group} {kind}"
    assert {case.kernel for case in cases} == set(registry.names("kernels"))
    for key, values in axes(family).items():
        if key != "kernel":
            rows = [dict(case.changes) for case in cases]
            for value in values:  # those that no other settings make possible are left out
                met = any(row[key] == value for row in rows)
                assert met or not any(builds(family, {**row, key: value}) for row in rows), key


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_the_product_has_every_combination_of_kinds(name):
    family = registry.family(name)
    chosen = {k: v for k, v in axes(family).items() if _cases.names_a_kind(v)}
    rows = [{**dict(case.changes), "kernel": case.kernel} for case in _cases.product(name)]
    for values in itertools.product(*chosen.values()):
        row = dict(zip(chosen, values, strict=True))
        assert any(row.items() <= made.items() for made in rows) or not builds(family, row)


@pytest.mark.parametrize("name", families())
def test_a_registry_line_is_enough(name, monkeypatch):
    """A new activation and a new scheme are found, with each choice of their options."""
    monkeypatch.setitem(registry.KINDS["activations"], "again", "regard.nn.feedforward:silu")
    sinusoidal = "regard.nn.positions.sinusoidal:Sinusoidal"
    monkeypatch.setitem(registry.KINDS["positions"], "waves", sinusoidal)
    found = axes(registry.family(name))
    assert "again" in found["layer.feed_forward.activation"]
    assert {"kind": "waves"} in found["positions"]  # interleaved, as usual
    assert {"kind": "waves", "layout": "halves"} in found["positions"]
    case = make_case(registry.family(name), {"positions": {"kind": "waves", "layout": "halves"}})
    assert case.run(case.model(), case.example()).isfinite().all()


def test_kinds_vary_their_options():
    assert {"kind": "sinusoidal", "layout": "halves"} in kinds("positions")
    assert {"kind": "none"} in kinds("positions")
