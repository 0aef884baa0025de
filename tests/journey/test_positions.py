"""Relative positions from recipe to pictures: trained, resumed, searched, scored, looked at."""

import json

import pytest

from ._made import TRAIN, bits

KINDS = {"shaw": '{kind = "shaw", clip = 2}', "alibi": "alibi"}


@pytest.fixture(params=KINDS)
def trained(request, call, files):
    done = call(*TRAIN, f"model.positions={KINDS[request.param]}")
    assert done.returncode == 0, done.stderr
    return request.param


def test_from_training_to_scores(call, trained, tmp_path):
    lines = (tmp_path / "test.source").read_text().splitlines()[:8]
    (tmp_path / "some").write_text("".join(f"{line}\n" for line in lines))
    search = ["translate", "run", "-i", "some", "--beam", "3", "--json"]
    together = call(*search)
    assert together.returncode == 0, together.stderr
    texts = [json.loads(line)["text"] for line in together.stdout.splitlines()]
    assert len(texts) == 8
    alone = call(*search, "--batch-tokens", "1")  # no padding, another order
    assert [json.loads(line)["text"] for line in alone.stdout.splitlines()] == texts
    for precision in ("bfloat16", "int8"):
        made = call(*search, "--precision", precision)
        assert made.returncode == 0, made.stderr
        assert len(made.stdout.splitlines()) == 8
    scored = call("evaluate", "run")
    assert scored.returncode == 0, scored.stderr
    counted = call("cost", "run", "--json")
    assert counted.returncode == 0, counted.stderr
    parts = {part["name"]: part["parameters"] for part in json.loads(counted.stdout)["parts"]}
    # 3 · 16² and 16² weights, 4 · 16 biases; shaw: two tables of 2 · 2 + 1 vectors of 16 / 2
    tables = 2 * 5 * 8 if trained == "shaw" else 0
    assert parts["encoder self-attention"] == 4 * 16**2 + 4 * 16 + tables
    assert parts["decoder cross-attention"] == 4 * 16**2 + 4 * 16


def test_pictures(call, trained, tmp_path):
    seen = call("look", "run", "1 2 3", "-o", "seen.html")
    assert seen.returncode == 0, seen.stderr
    drawn = call("look", "run", "--positions", "-o", "positions.html")
    if trained == "alibi":
        assert drawn.returncode == 0, drawn.stderr
        assert "Alibi" in (tmp_path / "positions.html").read_text()
    else:
        assert drawn.returncode == 2
        assert "Shaw's, answer to queries" in drawn.stderr


def test_with_checkpointing_and_gone_on_with_it_ends_in_the_same_bits(call, files, tmp_path):
    settings = [f"model.positions={KINDS['shaw']}", "training.gradient_checkpointing=true"]
    whole = ["train", "tiny.toml", "--run", "whole", *settings]
    assert call(*whole).returncode == 0
    assert call(*TRAIN, *settings, "training.max_steps=4").returncode == 0
    assert call(*TRAIN, *settings, "--resume").returncode == 0
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_a_wrong_clip_is_told(call, files):
    done = call("check", "tiny.toml", 'model.positions={kind = "shaw", clip = 0}')
    assert done.returncode == 2
    assert "model.positions.clip" in done.stderr
    done = call("check", "tiny.toml", 'model.positions={kind = "alibi", clip = 3}')
    assert done.returncode == 2
    assert "clip" in done.stderr
