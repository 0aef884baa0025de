import html
import json
import re
import struct
import sys

import pytest
import torch

from regard.errors import InputError, RegardError
from regard.look import look
from regard.look.picture import Picture, view_names
from regard.look.trace import LayerAttention, Trace
from regard.models import Transformer, TransformerConfig

NASTY = '</script><!--x--> & <b> "q" \u2028 $\\frac{1}{2}$'
SOURCE, TARGET = [NASTY, "b", "c", "日", "</s>"], ["<s>", "v", "w", "x"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    overrides = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24}
    return Transformer(TransformerConfig.preset("tiny", vocab_size=20, overrides=overrides))


@pytest.fixture(scope="module")
def example():
    return {
        "inputs": {
            "source_ids": torch.randint(20, (1, 5)),
            "target_ids": torch.randint(20, (1, 4)),
        },
        "tokens": {"encoder": SOURCE, "decoder": TARGET},
        "labels": torch.randint(20, (1, 4)),
    }


@pytest.fixture(scope="module")
def picture(model, example):
    return look(model, **example, positions=True)


def embedded(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


class TestLook:
    def test_a_module(self, picture):
        assert picture.text.endswith("b c 日 </s>")
        assert picture.target == "<s> v w x"
        assert all(layer.importance is not None for layer in picture.trace.layers)

    def test_a_predictor(self, model, example):
        class Predictor:
            def __init__(self):
                self.model = model

            def look_inputs(self, text, target=None):
                return {**example, "predicts": ["v", "w", "x", "</s>"], "target": target or "v w"}

        own = look(Predictor(), "b c")
        assert (own.text, own.target, own.own) == ("b c", "v w", True)
        assert own.trace.loss is not None
        assert all(layer.importance is None for layer in own.trace.layers)
        given = look(Predictor(), "b c", target="x")
        assert (given.target, given.own) == ("x", False)
        assert all(layer.importance is not None for layer in given.trace.layers)
        assert look(Predictor(), positions=True).trace is None
        with pytest.raises(InputError, match="no text"):
            look(Predictor())

    def test_nothing_to_look_at(self, model):
        with pytest.raises(InputError, match="needs inputs"):
            look(model)

    def test_views_have_short_names(self, picture):
        assert list(view_names(picture.trace)) == ["encoder", "decoder", "cross"]


class TestSave:
    def test_refuses_other_suffixes(self, picture, tmp_path):
        with pytest.raises(RegardError, match=r"\.pdf is no kind of picture"):
            picture.save(tmp_path / "a.pdf")
        with pytest.raises(RegardError, match="no suffix"):
            picture.save(tmp_path / "a")

    def test_says_why_it_cannot_write(self, picture, tmp_path):
        with pytest.raises(RegardError, match="No such file"):
            picture.save(tmp_path / "missing" / "a.html")


class TestPage:
    def test_is_one_document_without_network(self, picture, tmp_path):
        page = picture.save(tmp_path / "a.html").read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>")
        urls = set(re.findall(r"[a-z]+://[^\s\"'<>)]+", page))
        assert urls == {"http://www.w3.org/2000/svg"}  # a name, never fetched
        assert "default-src 'none'" in page
        assert re.findall(r"<!--(?!x)", page) == []
        assert len(re.findall(r"<script", page)) == 2
        assert not re.findall(r"<(link|img|iframe)[^>]+(src|href)=\"(?!data:)", page)

    def test_holds_the_numbers(self, picture):
        held = embedded(picture.html())
        assert held == picture.to_dict()
        cross = held["views"][2]
        assert (cross["id"], cross["queries"], cross["keys"]) == ("cross", TARGET, SOURCE)
        layer = picture.trace["decoder.layers.1.cross_attention"]
        head = cross["layers"][1]["heads"][3]
        weights = torch.tensor(head["weights"]) / held["scale"]
        torch.testing.assert_close(weights, layer.weights[3], atol=0.00051, rtol=0)
        assert head["entropy"] == pytest.approx(layer.entropy[3].item(), abs=1e-6)
        assert head["importance"] == pytest.approx(layer.importance[3].item(), abs=1e-6)
        assert held["loss"] == pytest.approx(picture.trace.loss, abs=1e-6)

    def test_hidden_keys_are_marked(self, picture):
        rows = picture.to_dict()["views"][1]["layers"][0]["heads"][0]["weights"]
        for i, row in enumerate(rows):
            assert all((value == -1) == (j > i) for j, value in enumerate(row))

    def test_escapes_texts(self, picture):
        page = picture.html()
        assert NASTY not in page
        assert page.count("</script>") == 2
        assert "\u2028" not in page.partition('id="data"')[2]
        assert "&lt;/script&gt;" in page.partition("</title>")[0]

    def test_lone_surrogates_can_be_written(self, tmp_path):
        trace = Trace(
            (LayerAttention("e", "e", 0, "self", torch.ones(1, 1, 1), torch.ones(1, 1).bool()),),
            {"e": ("\ud800",)},
        )
        Picture(trace, "\ud800").save(tmp_path / "a.html")

    def test_without_a_choice_there_is_no_relative_entropy(self):
        trace = Trace(
            (LayerAttention("e", "e", 0, "self", torch.ones(1, 1, 1), torch.ones(1, 1).bool()),),
            {"e": ("a",)},
        )
        assert (
            Picture(trace, "a").to_dict()["views"][0]["layers"][0]["heads"][0]["relative"] is None
        )

    def test_in_a_notebook(self, picture):
        frame = picture._repr_html_()
        (source,) = re.findall(r'srcdoc="(.*?)"', frame, re.S)
        assert html.unescape(source) == picture.html()


class TestImage:
    @pytest.fixture(autouse=True)
    def _matplotlib(self):
        pytest.importorskip("matplotlib")

    def test_every_head(self, picture, tmp_path):
        width, height = size(picture.save(tmp_path / "a.png"))
        assert width > 1000
        assert height > 500

    def test_one_view_has_an_image_for_each_head(self, picture):
        whole, part = picture.figure(), picture.figure(view="cross")
        assert len(whole.axes) == 3 * 2 * 4 + 1  # and the legend
        assert len(part.axes) == 2 * 4 + 1
        shown = part.axes[5].get_images()[0].get_array()
        expected = picture.trace["decoder.layers.1.cross_attention"].weights[1]
        torch.testing.assert_close(torch.tensor(shown.data), expected)

    def test_labels_are_the_words(self, picture):
        axes = picture.figure(view="cross").axes[4]
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels[1:] == SOURCE[1:]
        assert labels[0] == NASTY[:13] + "…"
        assert [label.get_text() for label in axes.get_yticklabels()] == TARGET

    def test_titles_carry_entropy_and_importance(self, picture):
        layer = picture.trace["encoder.layers.0.self_attention"]
        title = picture.figure(view="encoder").axes[2].get_title()
        assert title == f"1.3  {layer.entropy[2]:.2f}  {layer.importance[2]:+.3f}"

    def test_one_head(self, picture, tmp_path):
        size(picture.save(tmp_path / "one.png", view="decoder", layer=1, head=2))
        figure = picture.figure(view="decoder", layer=1, head=2)
        assert figure.axes[0].get_title().startswith("decoder, layer 2, head 3\nentropy")
        assert len(figure.axes[0].texts) == 4 + 3 + 2 + 1  # numbers, in visible cells alone

    @pytest.mark.parametrize("place", [{"layer": 2, "head": 0}, {"layer": 0, "head": 4}])
    def test_no_such_head(self, picture, place):
        with pytest.raises(InputError, match="no such head") as caught:
            picture.figure(view="cross", **place)
        assert "2 layers of 4 heads" in str(caught.value)

    def test_no_such_view(self, picture):
        with pytest.raises(InputError, match="no view 'x'"):
            picture.figure(view="x")

    def test_positions(self, picture, tmp_path):
        alone = Picture(None, positions=picture.positions)
        size(alone.save(tmp_path / "positions.png"))

    def test_without_matplotlib(self, picture, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(RegardError, match=r"pip install 'regard\[look\]'"):
            picture.figure()
