import importlib

import pytest

from regard import registry
from regard.errors import RegardError


def every_entry():
    tables = {"families": registry.FAMILIES, "tasks": registry.TASKS, **registry.KINDS}
    return [(group, name) for group, table in tables.items() for name in table]


@pytest.mark.parametrize(("group", "name"), every_entry())
def test_every_registered_name_leads_to_something(group, name):
    table = {"families": registry.FAMILIES, "tasks": registry.TASKS, **registry.KINDS}[group]
    module, _, attribute = table[name].partition(":")
    assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("group", [*registry.KINDS])
def test_a_group_reads_alphabetically(group):
    names = list(registry.KINDS[group])
    assert registry.names(group) == sorted(names)


def test_unknown_name_names_the_nearest_and_all():
    with pytest.raises(RegardError) as caught:
        registry.kind("positions", "sinusoid")
    assert "unknown position 'sinusoid'" in str(caught.value)
    assert "did you mean 'sinusoidal'?" in str(caught.value)
    assert "learned" in str(caught.value)


def test_nothing_near_is_not_guessed():
    with pytest.raises(RegardError) as caught:
        registry.family("zzzzzz")
    assert "did you mean" not in str(caught.value)


def test_unknown_group():
    with pytest.raises(RegardError, match="no group of kinds"):
        registry.names("nonsense")


class FakePoint:
    def __init__(self, name, value):
        self.name, self.value, self.dist, self.module = name, value, None, "their_package.parts"

    def load(self):
        return self.value


def test_entry_points_are_looked_up_only_when_a_name_is_missing(monkeypatch):
    asked = []

    def fake(group, name):
        asked.append((group, name))
        return [FakePoint(name, "theirs")] if name == "positions.spiral" else []

    monkeypatch.setattr(registry, "entry_points", fake)
    assert registry.kind("positions", "learned") is not None
    assert asked == []
    assert registry.kind("positions", "spiral") == "theirs"
    assert asked == [("regard.kinds", "positions.spiral")]
    assert registry.plugin("positions", "spiral") == "their_package.parts"
    assert registry.plugin("positions", "learned") is None
    with pytest.raises(RegardError):
        registry.family("spiral")
    assert asked[-1] == ("regard.families", "spiral")
