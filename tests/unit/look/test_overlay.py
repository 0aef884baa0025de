"""A picture with attention over it: which tokens are drawn where."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch

from regard.errors import InputError
from regard.look.overlay import Shown, draw
from regard.look.picture import Picture
from regard.look.trace import LayerAttention, Trace

WHITE = np.full((8, 12, 3), 255, np.uint8)


def attention(before: int, place: int, heads: int = 2) -> torch.Tensor:
    """All tokens look at one of six patches; the class token, too."""
    weights = torch.zeros(heads, before + 6, before + 6)
    weights[:, :, before + place] = 1.0
    return weights


@pytest.mark.parametrize("before", [0, 1])
def test_light_falls_where_attention_goes(before: int) -> None:
    shown = Shown(WHITE, (2, 3), before)
    weights = attention(before, 4)[0]
    assert shown.heat(weights).tolist() == [[0, 0, 0], [0, 1, 0]]
    lit = shown.lit(weights)
    assert lit.shape == (8, 12, 3)
    assert (lit.min() >= 0.0) & (lit.max() <= 1.0)
    bright = lit.sum(axis=2)
    assert bright.argmax() in [y * 12 + x for y in range(4, 8) for x in range(4, 8)]
    assert bright[0, 0] < bright[6, 6] / 2


def test_of_a_class_token_only_its_own_row_counts() -> None:
    weights = attention(1, 0)[0]
    weights[0] = torch.eye(7)[3]
    assert Shown(WHITE, (2, 3), 1).heat(weights).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_without_one_all_patches_count() -> None:
    heat = Shown(WHITE, (2, 3), 0).heat(torch.eye(6))
    assert heat.tolist() == [[1.0] * 3] * 2


@pytest.fixture
def picture() -> Picture:
    """A grey one of 2 × 3 patches; each layer looks at another."""
    layers = [
        LayerAttention(
            f"encoder.layers.{n}.self_attention",
            "encoder",
            n,
            "self",
            attention(1, n),
            torch.ones(7, 7, dtype=torch.bool),
            torch.tensor([0.5, -0.25]),
        )
        for n in range(3)
    ]
    trace = Trace(tuple(layers), {"encoder": tuple("c123456")})
    return Picture(trace, "a.png", "cat", shown=Shown(WHITE[..., :1], (2, 3), 1))


def test_grey_pictures_and_every_panel(picture: Picture) -> None:
    pytest.importorskip("matplotlib")
    figure = draw(picture)
    assert len(figure.axes) == 2 + 3 * 2
    assert figure.axes[2].texts[0].get_text() == "+0.500"
    assert len(picture.figure(view="encoder").axes) == len(figure.axes)  # the only view there is


def test_a_head_alone_is_laid_over_the_picture(picture: Picture) -> None:
    pytest.importorskip("matplotlib")
    assert picture.shown is not None
    assert picture.trace is not None
    figure = picture.figure(view="encoder", layer=1, head=0)
    plain, lit = (axes.images[0].get_array() for axes in figure.axes)
    assert plain.shape == lit.shape == (8, 12, 3)
    assert np.allclose(lit, picture.shown.lit(picture.trace.layers[1].weights[0]))
    assert figure.axes[1].get_title().startswith("layer 2, head 1")
    for wrong in ({"view": "decoder"}, {"layer": 3, "head": 0}, {"layer": 0, "head": 2}):
        with pytest.raises(InputError, match=r"no such head|no view 'decoder'"):
            picture.figure(**wrong)


def test_a_page_holds_the_picture_and_the_rollout(picture: Picture) -> None:
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', picture.html()
    )
    held = json.loads(found)
    pixels = held["pixels"]
    assert (pixels["height"], pixels["width"]) == (8, 12)
    assert base64.b64decode(pixels["rgb"]) == b"\xff" * (8 * 12 * 3)
    assert held["picture"]["grid"] == [2, 3]
    assert held["picture"]["before"] == 1
    # half stays, half goes to patch 1, then 2, then 3: (I + W₃)/2 (I + W₂)/2 (I + W₁)/2
    assert held["picture"]["rollout"] == [[1.0, 0.5, 0.25], [0.0, 0.0, 0.0]]
    assert "pixels" not in picture.to_dict()  # which is for numbers


def test_little_weights_of_many_patches_stay_apart() -> None:
    weights = torch.full((1, 1001, 1001), 0.0007)
    weights[:, :, 1:501] = 0.0013
    visible = torch.ones(1001, 1001, dtype=torch.bool)
    layer = LayerAttention("encoder.layers.0.a", "encoder", 0, "self", weights, visible)
    trace = Trace((layer,), {"encoder": ("t",) * 1001})
    shown = Shown(np.zeros((20, 50, 3), np.uint8), (20, 50), 1)
    held = Picture(trace, shown=shown).to_dict()
    row = held["views"][0]["layers"][0]["heads"][0]["weights"][0]
    assert [row[1] / held["scale"], row[1000] / held["scale"]] == pytest.approx([0.0013, 0.0007])
