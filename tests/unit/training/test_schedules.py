from __future__ import annotations

import math

import pytest

from regard import registry
from regard.errors import RecipeError
from regard.training.schedules import make_schedule
from regard.training.settings import ScheduleSettings


def make(kind: str, horizon: int | None = 1000, **numbers: float):
    usual = {"peak": 0.01, "warmup_steps": 100, "d_model": 512}
    return make_schedule(ScheduleSettings(kind=kind, **(usual | numbers)), horizon)


def test_noam_is_the_papers_formula() -> None:
    rate = make("noam", warmup_steps=4000, factor=2.0)
    for step in (1, 100, 3999, 4000, 4001, 100_000):
        expected = 2.0 * 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert rate(step) == pytest.approx(expected, rel=1e-12)
    assert max(range(1, 10_000), key=rate) == 4000


def test_noam_needs_a_width() -> None:
    with pytest.raises(RecipeError, match="width"):
        make("noam", d_model=0)


def test_inverse_sqrt_is_fairseqs() -> None:
    rate = make("inverse_sqrt", peak=0.005, warmup_steps=2000)
    assert rate(1) == pytest.approx(1e-7 + (0.005 - 1e-7) / 2000)
    assert rate(1000) == pytest.approx(1e-7 + (0.005 - 1e-7) / 2)
    assert rate(2000) == pytest.approx(0.005)
    assert rate(8000) == pytest.approx(0.0025)


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_those_with_an_end_come_to_zero_after_it_and_need_a_horizon(kind: str) -> None:
    rate = make(kind)
    assert rate(50) == pytest.approx(0.005)
    assert rate(100) == pytest.approx(0.01)
    assert 0 < rate(1000) < 1e-4
    assert rate(1001) == pytest.approx(0.0, abs=1e-12)
    assert rate(2000) == rate(1001)
    with pytest.raises(RecipeError, match="end of the run"):
        make(kind, horizon=None)


def test_shapes_between() -> None:
    # of 999 steps: the way from the warm-up's end to the first step at rate 0 is 900 long
    assert make("cosine", 999)(550) == pytest.approx(0.005)
    assert make("cosine", 999)(325) == pytest.approx(0.01 * (1 + math.cos(math.pi / 4)) / 2)
    assert make("linear", 999)(550) == pytest.approx(0.005)
    assert make("wsd", 999)(799) == pytest.approx(0.01)
    assert make("wsd", 999)(900) == pytest.approx(0.005)
    assert make("constant", horizon=None)(10_000) == pytest.approx(0.01)
    assert make("constant", horizon=None, warmup_steps=0)(1) == pytest.approx(0.01)


@pytest.mark.parametrize("kind", registry.names("schedules"))
def test_every_kind_is_positive_and_at_most_the_peak(kind: str) -> None:
    rate = make(kind)
    assert all(0 < rate(step) <= 0.01 + 1e-12 for step in range(1, 1001))
