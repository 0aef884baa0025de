"""Every preset's parameters have the names and shapes that stand in tests/snapshots."""

import importlib.util
import json
from pathlib import Path

import pytest

SNAPSHOTS = Path(__file__).parents[2] / "snapshots"


def load_writer():
    spec = importlib.util.spec_from_file_location("write_snapshots", SNAPSHOTS / "write.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = load_writer()


@pytest.mark.parametrize(("family", "preset"), WRITER.presets())
def test_names_and_shapes(family, preset):
    path = WRITER.path(family, preset)
    hint = "run: python tests/snapshots/write.py, and look at what it changes"
    assert path.exists(), hint
    kept, now = json.loads(path.read_text(encoding="utf-8")), WRITER.describe(family, preset)
    assert now == kept, hint
    assert list(now["shapes"]) == list(kept["shapes"]), f"another order; {hint}"
    assert path.read_text(encoding="utf-8") == WRITER.text(family, preset), hint


def test_no_snapshot_is_left_over():
    known = {WRITER.path(*pair).name for pair in WRITER.presets()}
    assert {path.name for path in SNAPSHOTS.glob("*.json")} == known
