"""The doors of positions, proved by two schemes of a plug-in: rotary (turn) and ALiBi (bias).

They come by an entry point, as another package's would, and stand under the laws of causality,
steps and positions with every kernel and cache.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
import torch

from regard import registry
from regard.errors import RecipeError
from regard.nn import (
    CACHES,
    Causal,
    Full,
    LayerSpec,
    Padding,
    PositionScheme,
    PositionSpec,
    Stack,
    StackSpec,
)

from . import test_causality, test_gradients, test_padding, test_rows, test_steps
from ._cases import Case, families

EXACT = {"rtol": 0, "atol": 1e-12}


@dataclass(frozen=True)
class RotaryOptions:
    base: float = 100.0
    layout: Literal["interleaved", "halves"] = "halves"


class Rotary(PositionScheme):
    """Pairs of features turned by an angle that grows with the position (Su et al., 2021)."""

    Options = RotaryOptions

    def prepare(self, positions, dtype):
        half = torch.arange(self.size.d_key // 2, dtype=torch.float64, device=positions.device)
        angles = positions[..., None] * self.options.base ** (-2 * half / self.size.d_key)
        return angles.cos()[:, None], angles.sin()[:, None]  # [B or 1, 1, T, d_key / 2]

    def turn(self, heads, prepared):
        cosines, sines = (part.to(heads.dtype) for part in prepared)
        if self.options.layout == "halves":
            one, two = heads.chunk(2, dim=-1)
            return torch.cat([one * cosines - two * sines, two * cosines + one * sines], dim=-1)
        one, two = heads[..., 0::2], heads[..., 1::2]
        pairs = [one * cosines - two * sines, two * cosines + one * sines]
        return torch.stack(pairs, dim=-1).flatten(-2)


class Alibi(PositionScheme):
    """A penalty on the scores that grows with the distance, by head (Press et al., 2022)."""

    def bias(self, queries, keys):
        heads = torch.arange(1, self.size.num_heads + 1, device=keys.device)
        slopes = 2.0 ** (-8.0 * heads / self.size.num_heads)
        distance = (queries[:, :, None] - keys[:, None, :]).abs()
        return -slopes[None, :, None, None] * distance[:, None]  # [B or 1, H, Tq, Tk]


PLUGINS = {"positions.turned": Rotary, "positions.sloped": Alibi}
SCHEMES = {
    "rotary": "turned",
    "rotary interleaved": {"kind": "turned", "layout": "interleaved"},
    "alibi": "sloped",
}


@pytest.fixture(autouse=True)
def _plugin(monkeypatch):
    """A package that announces both schemes under regard.kinds."""

    def entry_points(*, group, name):
        if group != "regard.kinds" or name not in PLUGINS:
            return ()
        dist = SimpleNamespace(name="regard-turned")
        return (SimpleNamespace(load=lambda: PLUGINS[name], dist=dist, module="turned"),)

    monkeypatch.setattr(registry, "entry_points", entry_points)


def case_of(family, scheme, kernel="dense", **more):
    changes = {"positions": SCHEMES[scheme], "layer.attention.d_key": 6, **more}
    return [Case(registry.family(family), tuple(changes.items()), kernel)]


each_scheme = pytest.mark.parametrize("scheme", SCHEMES)
each_kernel = pytest.mark.parametrize("kernel", registry.names("kernels"))
each_family = pytest.mark.parametrize("family", families("cache"))


def test_a_plug_in_is_found_and_named():
    assert registry.plugin("positions", "turned") == "regard-turned"
    assert registry.plugin("positions", "learned") is None
    with pytest.raises(RecipeError, match="base"):
        PositionSpec.from_settings({"kind": "turned", "bass": 1.0}, "positions")


@pytest.mark.parametrize("cache", CACHES)
@each_kernel
@each_scheme
@each_family
def test_step_by_step_is_all_at_once(family, scheme, kernel, cache):
    kv_heads = {"rotary": None, "rotary interleaved": 1, "alibi": 2}[scheme]
    case = case_of(family, scheme, kernel, **{"layer.attention.num_kv_heads": kv_heads})
    test_steps.test_step_by_step_is_all_at_once(case=case, cache=cache)


@each_kernel
@each_scheme
@each_family
def test_other_laws(family, scheme, kernel):
    case = case_of(family, scheme, kernel)
    test_causality.test_a_later_token_changes_no_earlier_output(case=case)
    test_padding.test_padding_on_the_right_changes_nothing(case=case)
    test_padding.test_padding_on_the_left_changes_nothing(case=case)
    test_padding.test_a_row_of_padding_alone_harms_nobody(case=case)
    test_gradients.test_every_parameter_gets_a_gradient(case=case)
    for dtype in (torch.float64, torch.float32):
        test_rows.test_a_row_is_the_same_alone_and_in_any_batch(case=case, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_kernel
@each_scheme
@each_family
@torch.no_grad()
def test_narrow_floats(family, scheme, kernel, dtype):
    [case] = case_of(family, scheme, kernel)
    example = case.padded(case.example(), 2)
    truth, made = case.run(case.model(), example), case.run(case.model(dtype), example)
    assert made.dtype == dtype
    error = (made.double() - truth).abs() / truth.std() / torch.finfo(dtype).eps
    assert error.mean() < 6


@each_scheme
def test_stacks(scheme):
    spec = StackSpec(2, build(SCHEMES[scheme]), LayerSpec())
    stack = Stack(spec, 16, max_positions=60, input_dropout=0.0).double().eval()
    x, places = torch.randn(2, 6, 16, dtype=torch.float64), torch.arange(6)
    here = stack(x, mask=Causal())
    there = stack(x, mask=Causal(), positions=places[None] + 40)
    torch.testing.assert_close(there, here, **EXACT)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    whole = stack(x, mask=Full())
    moved = stack(x[:, order], mask=Full(), positions=order[None])
    torch.testing.assert_close(moved, whole[:, order], **EXACT)
    assert not torch.allclose(stack(x[:, order], mask=Full()), whole[:, order])
    real = torch.tensor([[False, True, True, True, True, True]] * 2)
    own = (real.cumsum(1) - 1).clamp_min(0)
    left = stack(x, mask=Padding(real), positions=own)[:, 1:]
    torch.testing.assert_close(left, stack(x[:, 1:], mask=Full()), **EXACT)


def build(settings):
    settings = {"kind": settings} if isinstance(settings, str) else settings
    return PositionSpec.from_settings(settings, "positions")
