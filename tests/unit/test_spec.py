from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard import registry
from regard.errors import RecipeError
from regard.spec import KindSpec, build, merge, nest, plain, resolve, spread


@dataclass(frozen=True)
class Inner:
    width: int = 4
    rate: float = 0.1
    placement: Literal["post", "pre"] = "post"


@dataclass(frozen=True)
class Outer:
    size: int
    inner: Inner = field(default_factory=Inner)
    name: str | None = None


@dataclass(frozen=True)
class Stacks:
    left: Inner = field(default_factory=Inner)


class TestMerge:
    def test_later_wins_key_by_key(self):
        assert merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}}

    def test_another_kind_replaces_the_whole(self):
        old = {"positions": {"kind": "rotary", "base": 5}}
        new = {"positions": {"kind": "learned"}}
        assert merge(old, new) == new

    def test_the_same_kind_keeps_its_options(self):
        old = {"positions": {"kind": "rotary", "base": 5}}
        assert merge(old, {"positions": {"kind": "rotary", "half": True}}) == {
            "positions": {"kind": "rotary", "base": 5, "half": True}
        }

    def test_inputs_stay_as_they_are(self):
        lower, upper = {"a": {"x": 1}}, {"a": {"x": 2}}
        merge(lower, upper)["a"]["x"] = 9
        assert (lower, upper) == ({"a": {"x": 1}}, {"a": {"x": 2}})

    @given(st.dictionaries(st.sampled_from("abc"), st.integers()))
    def test_merging_nothing_changes_nothing(self, settings):
        assert merge(settings, {}) == merge({}, settings) == settings


def test_nest_takes_dotted_keys():
    assert nest({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}


class TestSpread:
    def test_shared_settings_reach_each_stack_and_yield_to_its_own(self):
        given_ = {"layer": {"dropout": 0.1}, "encoder": {"layer": {"dropout": 0.3}}, "d_model": 8}
        assert spread(given_, ("encoder", "decoder")) == {
            "d_model": 8,
            "encoder": {"layer": {"dropout": 0.3}},
            "decoder": {"layer": {"dropout": 0.1}},
        }

    def test_a_recipe_beats_a_preset_stack_by_stack(self):
        preset = {"encoder": {"num_layers": 2}, "decoder": {"num_layers": 4}}
        resolved = resolve(preset, {"num_layers": 6}, stacks=("encoder", "decoder"))
        assert resolved["encoder"]["num_layers"] == resolved["decoder"]["num_layers"] == 6


class TestBuild:
    def test_nested_values(self):
        assert build(Outer, {"size": 3, "inner": {"width": 8}}) == Outer(3, Inner(8))

    def test_whole_numbers_are_numbers(self):
        assert build(Inner, {"rate": 0}).rate == 0

    @pytest.mark.parametrize(
        ("settings", "where", "words"),
        [
            ({"size": 1, "innr": {}}, "model.innr", "did you mean model.inner?"),
            ({"size": 1, "inner": {"widht": 2}}, "model.inner.widht", "model.inner.width"),
            ({}, "model.size", "is needed"),
            ({"size": "3"}, "model.size", "does not fit"),
            ({"size": True}, "model.size", "does not fit"),
            ({"size": 1, "inner": {"placement": "mid"}}, "model.inner.placement", "'post' or"),
            ({"size": 1, "inner": 3}, "model.inner", "needs a table"),
        ],
    )
    def test_errors_name_the_key(self, settings, where, words):
        with pytest.raises(RecipeError) as caught:
            build(Outer, settings)
        assert caught.value.where == where
        assert words in str(caught.value)

    def test_plain_and_build_are_inverse(self):
        made = Outer(3, Inner(8, 0.5, "pre"), "x")
        assert build(Outer, plain(made)) == made
        assert "name" not in plain(Outer(3))


class Waves:
    @dataclass(frozen=True)
    class Options:
        base: float = 10.0


class TestKindSpec:
    @pytest.fixture(autouse=True)
    def _kinds(self, monkeypatch):
        monkeypatch.setitem(registry.KINDS, "waves", {"flat": "builtins:object"})
        monkeypatch.setitem(registry.KINDS["waves"], "sine", f"{__name__}:Waves")
        monkeypatch.setattr(
            registry,
            "kind",
            lambda _group, name: {"flat": object, "sine": Waves}[name],
        )

    @dataclass(frozen=True)
    class Spec(KindSpec):
        group = "waves"
        kind: str = "flat"

    def test_short_and_long_form(self):
        short = self.Spec.from_settings({"kind": "sine"}, "x")
        long = self.Spec.from_settings({"kind": "sine", "base": 2.0}, "x")
        assert plain(short) == "sine"
        assert plain(long) == {"kind": "sine", "base": 2.0}
        assert long.resolve() == (Waves, Waves.Options(2.0))

    def test_an_option_of_another_kind_is_an_error(self):
        with pytest.raises(RecipeError, match=r"model\.positions\.bass") as caught:
            self.Spec.from_settings({"kind": "sine", "bass": 2.0}, "model.positions")
        assert "model.positions.base" in str(caught.value)
