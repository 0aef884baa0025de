"""The page: one HTML document with its style, its script and its numbers inside.

Shapes: weights [Tq, Tk], whole numbers of 1 / SCALE; -1 where the mask hides a key.
"""

from __future__ import annotations

import base64
import html
import json
import math
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from regard import __version__
from regard.look.overlay import DIMMED, TINT, WARM
from regard.look.positions import Positions
from regard.look.rollout import last_rollout
from regard.look.trace import LayerAttention, Trace

if TYPE_CHECKING:
    from regard.look.picture import Picture

SCALE = 1000
"""Weights are whole thousandths: what a reader sees, in half the bytes of decimals."""

FINE = 10_000
"""The same of a picture: each of its many patches gets little, and brightness shows how little."""

HIDDEN = -1
FRAME_HEIGHT = 860
SCRIPTS = ("positions.js", "overlay.js", "page.js")


def page(picture: Picture) -> str:
    """The whole document."""
    assets = files("regard.look") / "assets"
    title = " → ".join(part for part in (picture.text, picture.target) if part) or "Positions"
    document = (assets / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(f"{_short(title)} · regard"),
        "style": (assets / "page.css").read_text(encoding="utf-8"),
        "data": _json({**data(picture), **_drawn(picture)}),
        "script": "\n".join((assets / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    for name, text in parts.items():
        document = document.replace(f"<!--{name}-->", text, 1)
    return document.encode("utf-8", "replace").decode("utf-8")


def frame(picture: Picture) -> str:
    """The page inside a notebook's cell, apart from the notebook's own style and scripts."""
    source = html.escape(page(picture), quote=True)
    return (
        f'<iframe title="attention" sandbox="allow-scripts" srcdoc="{source}" '
        f'style="width:100%;height:{FRAME_HEIGHT}px;border:0;border-radius:12px"></iframe>'
    )


def data(picture: Picture) -> dict[str, Any]:
    """All that the page shows, as plain values."""
    found = picture.trace
    scale = SCALE if picture.shown is None else FINE
    return {
        "version": __version__,
        "text": picture.text,
        "target": picture.target,
        "own": picture.own,
        "scale": scale,
        "rollout": found is not None and found.rolled,
        "loss": None if found is None else _number(found.loss),
        "views": [] if found is None else _views(found, scale),
        "positions": [_positions(one) for one in picture.positions],
        "picture": _picture(picture),
    }


def _picture(picture: Picture) -> dict[str, Any] | None:
    """Where the patches of a picture that was read are, and its rollout; the most of that is 1."""
    shown, found = picture.shown, picture.trace
    if shown is None or found is None:
        return None
    heat = shown.heat(last_rollout(found))
    rolled = [[round(value, 4) for value in row] for row in heat.tolist()]
    return {"grid": list(shown.grid), "before": shown.before, "rollout": rolled}


def _drawn(picture: Picture) -> dict[str, Any]:
    """The pixels of a picture that was read, and how `Shown.lit` lights them."""
    if (shown := picture.shown) is None:
        return {}
    height, width = shown.pixels.shape[:2]
    pixels = np.broadcast_to(shown.pixels, (height, width, 3))
    held = base64.b64encode(pixels.tobytes()).decode("ascii")
    light = {"dimmed": DIMMED, "tint": TINT, "warm": [round(value, 4) for value in WARM.tolist()]}
    return {"pixels": {"height": height, "width": width, "rgb": held, **light}}


def _views(found: Trace, scale: int) -> list[dict[str, Any]]:
    from regard.look.picture import view_names

    views = []
    grouped = found.views()
    last = list(found.tokens)[-1]
    for name, (stack, kind) in view_names(found).items():
        layers = grouped[stack, kind]  # type: ignore[index]
        views.append(
            {
                "id": name,
                "title": name.replace("_", " ").capitalize(),
                "kind": kind,
                "queries": list(found.queries(layers[0])),
                "keys": list(found.keys(layers[0])),
                "predicts": list(found.predicts) if stack == last else [],
                "layers": [
                    {"name": one.name, "heads": [_head(one, h, scale) for h in range(_heads(one))]}
                    for one in layers
                ],
            }
        )
    return views


def _heads(layer: LayerAttention) -> int:
    return layer.weights.shape[0]


def _head(layer: LayerAttention, head: int, scale: int) -> dict[str, Any]:
    place, share = layer.focus(head)
    importance = None if layer.importance is None else float(layer.importance[head])
    return {
        "entropy": _number(float(layer.entropy[head])),
        "relative": _number(float(layer.relative_entropy[head])),
        "importance": _number(importance),
        "focus": [place, _number(share)],
        "weights": _whole(layer.weights[head], layer.visible, scale),
    }


def _whole(weights: Tensor, visible: Tensor, scale: int) -> list[list[int]]:
    whole = (weights * scale).round().long().masked_fill(~visible, HIDDEN)
    rows: list[list[int]] = whole.tolist()
    return rows


def _positions(one: Positions) -> dict[str, Any]:
    """Of a picture its maps stand for the similarity of all pairs."""
    flat = one.grid is None
    return {
        "stack": one.stack,
        "kind": one.kind,
        "door": one.door,
        "scale": SCALE,
        "table": None if one.table is None else _scaled(one.table),
        "similarity": _scaled(one.similarity) if flat else None,
        "byOffset": _curves(one.by_offset) if flat else None,
        "byHead": None if one.by_head is None else _curves(one.by_head),
        "grid": None if flat else list(one.grid or ()),
        "maps": None if flat else _scaled(one.maps),
        "byAxis": None if flat else [_curves(values) for values in one.by_axis],
    }


def _scaled(values: Tensor) -> Any:
    """Whole numbers of 1 / SCALE, in lists."""
    return (values * SCALE).round().long().tolist()


def _curves(values: Tensor) -> Any:
    """Of one curve, or of several."""
    if values.ndim > 1:
        return [_curves(row) for row in values]
    return [_number(value) for value in values.tolist()]


def _number(value: float | None) -> float | None:
    """Six decimals, as JSON has them: no NaN, no infinity."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _json(values: dict[str, Any]) -> str:
    """JSON that can stand in a script element whatever the texts hold."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
