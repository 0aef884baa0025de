"""A picture with attention over it: which tokens are drawn where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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


def test_grey_pictures_and_every_panel() -> None:
    pytest.importorskip("matplotlib")
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
    shown = Shown(WHITE[..., :1], (2, 3), 1)
    picture = Picture(trace, "a.png", "cat", shown=shown)
    figure = draw(picture)
    assert len(figure.axes) == 2 + 3 * 2
    assert figure.axes[2].texts[0].get_text() == "+0.500"
    assert picture.figure(view="encoder").axes != figure.axes
