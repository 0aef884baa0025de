"""The page of ``regard look`` of a model of pictures, in headless Chromium."""

import numpy as np
import pytest
import torch

from regard.look import look
from regard.look.overlay import Shown
from regard.look.picture import Picture
from regard.look.positions import positions
from regard.models import T5, ViT, ViTConfig
from regard.models.t5 import T5Config

from .test_look_page import browser, failures

__all__ = ["browser"]

ROWS, COLUMNS = 2, 3


def vit(pooling):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "image_width": 24, "patch_size": 8, "pooling": pooling}
    small = {"d_model": 16, "num_layers": 2, "layer.attention.num_heads": 2}
    overrides = {**sizes, **small, "layer.feed_forward.d_ff": 16}
    return ViT(ViTConfig.preset("tiny-16", overrides=overrides))


@pytest.fixture(scope="module", params=["class", "mean"])
def picture(request):
    model = vit(request.param)
    first = ["[CLS]"] if request.param == "class" else []
    patches = [f"{row}·{column}" for row in range(1, ROWS + 1) for column in range(1, COLUMNS + 1)]
    tokens = {"encoder": [*first, *patches]}
    trace = look(model, inputs={"pixels": torch.rand(1, 3, 16, 24)}, tokens=tokens).trace
    pixels = np.random.default_rng(0).integers(256, size=(16, 24, 3), dtype=np.uint8)
    return Picture(trace, "a.png", "cat", shown=Shown(pixels, (ROWS, COLUMNS), len(first)))


@pytest.fixture
def page(picture, tmp_path):
    return picture.save(tmp_path / "page.html")


def drawn(browser, selector):
    """What a canvas shows, as [H, W, 3] in 0 to 1."""
    height, width, *held = browser.run(
        f"(c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height)"
        f".data])(document.querySelector('{selector}'))"
    )
    return np.array(held).reshape(height, width, 4)[..., :3] / 255


def test_shows_what_the_image_shows(browser, picture, page):
    browser.open(page, "encoder/2/1")
    assert failures(browser)[0] == []
    shown, layer = picture.shown, picture.trace.layers[1]
    assert np.allclose(drawn(browser, "#seen canvas"), shown.pixels / 255, atol=0.003)
    lit = shown.lit(layer.weights[0])
    assert np.allclose(drawn(browser, "#over canvas"), lit, atol=0.01)
    assert np.allclose(drawn(browser, ".cell[aria-checked=true] canvas"), lit, atol=0.01)
    assert browser.run("document.getElementById('by-word').offsetParent") is None


def test_a_patch_that_is_pointed_at_or_chosen_looks(browser, picture, page):
    browser.open(page, "encoder/1/2")
    before = drawn(browser, "#over canvas")
    browser.point("#over canvas")
    assert "·2 looks at" in browser.text("#readout")  # the middle one of three columns
    assert browser.count("#over .band") == 1
    assert not np.allclose(drawn(browser, "#over canvas"), before, atol=0.01)
    browser.point("h1")
    assert np.allclose(drawn(browser, "#over canvas"), before)
    last = picture.shown.before + ROWS * COLUMNS - 1
    browser.run(
        f"(s => {{ s.value = '{last}'; s.dispatchEvent(new Event('change')); }})"
        "(document.getElementById('from'))"
    )
    assert browser.text("#readout").startswith("2·3 looks at")
    assert browser.run("location.hash") == f"#encoder/1/2/{last + 1}"
    browser.press("Escape")
    assert np.allclose(drawn(browser, "#over canvas"), before)


@pytest.mark.parametrize("width", [320, 1200])
def test_fits_every_width(browser, page, width):
    browser.open(page, "encoder/1/1/2", width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert failures(browser)[0] == []


def test_positions_of_patches_and_of_buckets(browser, tmp_path):
    for model, canvases, lines in (
        (vit("class"), 2, 2),  # the table and the maps; along columns and rows
        (T5(T5Config.preset("tiny", vocab_size=9)), 2, 2 * (4 + 1)),  # heads and their mean
    ):
        page = Picture(None, positions=positions(model)).save(tmp_path / "positions.html")
        browser.open(page, width=400)
        assert failures(browser)[0] == []
        assert browser.count("#schemes canvas") == canvases
        assert browser.count("#schemes path") == lines
        assert browser.run("document.documentElement.scrollWidth") <= 400
