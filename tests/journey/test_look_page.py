"""The page of ``regard look`` in headless Chromium: pointer, keyboard, widths, both schemes.

Talks to the browser over its own pipe (DevTools protocol); skips where there is no browser.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from regard.look import look
from regard.look.picture import Picture
from regard.look.rollout import rollout
from regard.look.trace import LayerAttention, Trace
from regard.models import Transformer, TransformerConfig

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]
BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LAUNCH = """
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 60) for fd in sys.argv[1:3]]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
NASTY = '</script><b id="oops">&amp; "quoted" \u2028'
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Browser:
    def __init__(self, binary, directory):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._process = subprocess.Popen(
            [
                *[sys.executable, "-c", LAUNCH, str(commands), str(answers), binary, *FLAGS],
                *[f"--user-data-dir={directory}", "about:blank"],
            ],
            pass_fds=(commands, answers),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._held, self._number, self._session = b"", 0, None
        self.events = []
        page = next(
            t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def close(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _message(self):
        while b"\0" not in self._held:
            read = os.read(self._read, 1 << 16)
            assert read, "the browser went away"
            self._held += read
        message, self._held = self._held.split(b"\0", 1)
        return json.loads(message)

    def open(self, path, place="", width=1200, height=900, dark=False):
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url="about:blank")
        self.events.clear()
        self._call("Page.navigate", url=f"file://{path}#{place}")
        for _ in range(200):
            if self.run("document.readyState === 'complete' && location.protocol === 'file:'"):
                return
            time.sleep(0.05)
        raise AssertionError("the page did not load")

    def run(self, code):
        done = self._call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def count(self, selector):
        return self.run(f"document.querySelectorAll({json.dumps(selector)}).length")

    def focused(self):
        return self.run(
            "(e => e.id || e.parentElement.id + '/' + [...e.parentElement.children].indexOf(e))"
            "(document.activeElement)"
        )

    def press(self, key, times=1):
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp") if key != "Enter" else ("keyDown", "keyUp"):
                extra = {"text": "\r"} if (key, kind) == ("Enter", "keyDown") else {}
                self._call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=KEYS[key],
                    **extra,
                )

    def point(self, selector, button="none"):
        """Move the pointer onto an element; with a button, click."""
        x, y = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        kinds = ["mouseMoved"] + (["mousePressed", "mouseReleased"] if button != "none" else [])
        for kind in kinds:
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def screenshot(self):
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    if binary is None or not sys.platform.startswith("linux"):
        pytest.skip("no Chromium here")
    made = Browser(binary, tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


SOURCE = ["the", "old", "dog", "sleeps", "</s>"]
TARGET = ["<s>", "der", "alte", "Hund", "schläft"]


@pytest.fixture(scope="module")
def picture():
    torch.manual_seed(0)
    config = TransformerConfig.preset("tiny", vocab_size=20, overrides={"num_layers": 2})
    return look(
        Transformer(config),
        inputs={
            "source_ids": torch.randint(20, (1, len(SOURCE))),
            "target_ids": torch.randint(20, (1, len(TARGET))),
        },
        tokens={"encoder": SOURCE, "decoder": TARGET},
        labels=torch.randint(20, (1, len(TARGET))),
        positions=True,
    )


@pytest.fixture(scope="module")
def page(picture, tmp_path_factory):
    return picture.save(tmp_path_factory.mktemp("page") / "page.html")


def head(picture, name, number):
    return picture.trace[name].weights[number]


def failures(browser):
    """What went wrong on the page, and everything that it asked a network or a disk for."""
    wrong = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
    wrong += [
        e
        for e in browser.events
        if e.get("method") == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
    ]
    asked = [
        e["params"]["request"]["url"]
        for e in browser.events
        if e.get("method") == "Network.requestWillBeSent"
    ]
    return wrong, asked


def test_opens_alone_and_without_errors(browser, page):
    browser.open(page)
    assert browser.text("h1") == " ".join(SOURCE)
    assert browser.text("#tabs").split() == ["Encoder", "Decoder", "Cross", "Positions"]
    wrong, asked = failures(browser)
    assert wrong == []
    assert [url.partition("#")[0] for url in asked] == [f"file://{page}"]


def test_hash_selects_view_layer_head_and_word(browser, picture, page):
    browser.open(page, "cross/2/3/4")
    assert browser.text("#head-title") == "Layer 2, head 3"
    assert browser.text("[aria-selected=true]") == "Cross"
    chosen = "[...document.querySelectorAll('#layer, #head')].map(s => s.value)"
    assert browser.run(chosen) == ["1", "2"]
    weights = head(picture, "decoder.layers.1.cross_attention", 2)[3]
    said = browser.text("#readout")
    assert said.startswith("Hund")
    best = int(weights.argmax())
    assert f"{SOURCE[best]} {weights[best]:.3f}" in said


def test_shows_entropy_and_importance(browser, picture, page):
    browser.open(page, "encoder/1/2")
    layer = picture.trace["encoder.layers.0.self_attention"]
    stats = browser.text("#stats").replace("−", "-")
    assert f"{layer.entropy[1]:.2f} nats" in stats
    assert f"{layer.importance[1]:+.3f} nats" in stats
    assert f"loss {picture.trace.loss:.3f}" in stats


def test_pointer_shows_where_a_word_looks(browser, picture, page):
    browser.open(page, "decoder/1/1")
    browser.point("#queries .word:nth-child(3)")
    weights = head(picture, "decoder.layers.0.self_attention", 0)[2]
    shown = browser.run("[...document.querySelectorAll('#keys small')].map(s => s.innerText)")
    assert shown[3:] == ["", ""]  # later words are hidden from it
    for value, text in zip(weights[:3].tolist(), shown, strict=False):
        assert abs(float(text) - value) < 0.0051
    assert browser.count("#queries .on") == 1
    assert browser.count("#lines path") == int((weights >= 0.005).sum())
    browser.point("#keys .word:nth-child(1)")
    assert "is looked at by" in browser.text("#readout")
    browser.point("h1")
    assert "Point at a word" in browser.text("#readout")


def test_pointer_on_the_matrix_names_row_and_column(browser, page):
    browser.open(page, "encoder/1/1")
    browser.point("#matrix canvas")
    assert browser.text(".names.rows .on") == "dog"
    assert browser.text(".names.columns .on") == "dog"
    assert browser.count(".band") == 1


def test_click_holds_a_word_and_another_head_keeps_it(browser, page):
    browser.open(page, "cross/1/1")
    browser.point("#queries .word:nth-child(2)", button="left")
    browser.point("h1")
    assert browser.text("#readout").startswith("der")
    browser.point(".cell:nth-of-type(3)", button="left")
    assert browser.text("#head-title") == "Layer 1, head 3"
    assert browser.text("#readout").startswith("der")
    assert browser.run("location.hash") == "#cross/1/3/2"
    browser.press("Escape")
    browser.point("h1")
    assert "Point at a word" in browser.text("#readout")


def test_keyboard_reaches_everything(browser, page):
    browser.open(page)
    browser.press("Tab")
    assert browser.focused() == "tab-encoder"
    browser.press("ArrowRight", 2)
    assert browser.focused() == "tab-cross"
    assert browser.text("[aria-selected=true]") == "Cross"
    browser.press("Tab")
    assert browser.run("document.activeElement.getAttribute('aria-label')").startswith(
        "Layer 1, head 1, entropy"
    )
    browser.press("ArrowDown")
    browser.press("ArrowRight")
    assert browser.text("#head-title") == "Layer 2, head 2"
    assert browser.run("document.activeElement.getAttribute('aria-checked')") == "true"
    ring = "getComputedStyle(document.activeElement).outline"
    assert "solid" in browser.run(ring)
    browser.press("Tab", 3)  # layer, head, the first word
    assert browser.focused() == "queries/0"
    assert "solid" in browser.run(ring)
    browser.press("ArrowDown", 2)
    assert browser.focused() == "queries/2"
    assert browser.text("#readout").startswith("alte")
    browser.press("Enter")
    assert browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.press("ArrowRight")
    assert browser.focused() == "keys/2"
    assert browser.text("#readout").startswith("dog")


def test_everything_has_a_name(browser, page):
    browser.open(page)
    nameless = browser.run(
        "[...document.querySelectorAll('button, select, canvas, [role]')].filter(e =>"
        " !e.closest('[aria-hidden=true], [hidden]') && e.offsetParent"
        " && !e.closest('button[aria-label]')"
        " && !(e.innerText || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
        " || e.labels)).map(e => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 768, 1200])
def test_fits_every_width(browser, page, width, dark):
    for place in ("encoder/1/1/1", "cross/2/2", "positions"):
        browser.open(page, place, width=width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width, place
        assert failures(browser)[0] == []


def many_heads(words, heads=16, layers=3):
    count = len(words)
    weights = torch.rand(heads, count, count).softmax(dim=-1)
    visible = torch.ones(count, count, dtype=torch.bool)
    made = [
        LayerAttention(f"encoder.layers.{n}.self_attention", "encoder", n, "self", weights, visible)
        for n in range(layers)
    ]
    return Picture(Trace(tuple(made), {"encoder": tuple(words)}), " ".join(words))


def test_many_heads_and_long_words_fit_400_pixels(browser, tmp_path):
    words = ["Donaudampfschifffahrtsgesellschaftskapitän" * 2, *"abcdefghijklmnopqrstuvwxyz" * 2]
    page = many_heads(words).save(tmp_path / "many.html")
    for place in ("encoder/1/1", "encoder/3/16/1"):
        browser.open(page, place, width=400)
        assert browser.run("document.documentElement.scrollWidth") <= 400
    assert browser.text("#head-title") == "Layer 3, head 16"


def test_colors_follow_the_scheme(browser, page):
    code = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    browser.open(page, dark=False)
    assert min(browser.run(code)) > 200
    light = browser.screenshot()
    browser.open(page, dark=True)
    assert max(browser.run(code)) < 60
    assert browser.screenshot() != light


def test_texts_stay_texts(browser, tmp_path):
    words = [NASTY, "<i>", " ", "日本", "مرحبا"]
    page = many_heads(words, heads=2, layers=1).save(tmp_path / "nasty.html")
    browser.open(page, "encoder/1/1/1")
    assert failures(browser)[0] == []
    assert browser.count("#oops, #queries i, #queries b") == 0
    shown = browser.run("[...document.querySelectorAll('#queries span')].map(s => s.textContent)")
    assert shown == [NASTY, "<i>", "␣", "日本", "مرحبا"]
    assert "</script>" in browser.run("document.title")


def test_positions_alone(browser, picture, tmp_path):
    page = Picture(None, positions=picture.positions).save(tmp_path / "positions.html")
    browser.open(page)
    assert failures(browser)[0] == []
    assert browser.text("#tabs") == "Positions"
    assert browser.count("#schemes canvas") == 2
    assert "encoder + decoder: Sinusoidal" in browser.text("#schemes")


def test_rollout_has_layers_and_no_heads(browser, picture, tmp_path):
    page = Picture(rollout(picture.trace), "a", "b").save(tmp_path / "rollout.html")
    browser.open(page, "cross/2/1")
    assert failures(browser)[0] == []
    assert browser.text("#what").startswith("attention rollout")
    assert browser.text("#head-title") == "Layer 2"
    assert browser.count("#grid .cell") == 2


def test_shows_itself_in_a_notebook(browser, picture, tmp_path):
    cell = tmp_path / "cell.html"
    html = picture._repr_html_()
    assert 'sandbox="allow-scripts"' in html
    # Without the sandbox this test can look inside; the page itself is the same.
    cell.write_text(html.replace("sandbox=", "data-sandbox="), encoding="utf-8")
    browser.open(cell)
    inside = "document.querySelector('iframe').contentDocument"
    assert browser.run(f"{inside}.querySelectorAll('.cell').length") == 8
    assert browser.run(f"{inside}.querySelector('h1').innerText") == " ".join(SOURCE)
    assert failures(browser)[0] == []
