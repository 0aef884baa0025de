"""ViT and YOLOS against the newest ``transformers``, by random models drawn from a seed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from regard.interop.hf import read_tensors
from regard.interop.runs import export_hf, read_hf, write_run

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("default")

SEED = os.environ.get("REGARD_GRID_SEED", "1")
FAST, ALL = 2, 20
TOLERANCE = 1e-4
KINDS = ["ViTForImageClassification", "ViTModel", "YolosForObjectDetection"]


def drawn(kind: str, number: int) -> tuple[random.Random, Any]:
    """The generator of a case, and its model with weights of which none is trivial."""
    rng = random.Random(f"{SEED}-{kind}-{number}")
    torch.manual_seed(rng.randrange(1 << 30))
    heads, patch = rng.choice([1, 2, 3, 5]), rng.choice([2, 4, 5])
    yolos = kind.startswith("Yolos")
    rows, columns = rng.randrange(1, 6), rng.randrange(1, 6)
    sides = [one * patch + rng.randrange(patch) for one in (rows, columns)]  # as 1333 has 16
    size: Any = sides if yolos else sides[0]
    settings = {
        "hidden_size": heads * rng.choice([3, 4, 8]),
        "num_hidden_layers": rng.randrange(1, 4),
        "num_attention_heads": heads,
        "intermediate_size": rng.choice([11, 40]),
        "hidden_act": rng.choice(["gelu", "relu", "gelu_new", "silu"]),
        "image_size": size,
        "patch_size": patch,
        "num_channels": rng.choice([1, 2, 3]),
        "layer_norm_eps": rng.choice([1e-12, 1e-6]),
        "num_labels": rng.choice([2, 5]),
    }
    if yolos:
        settings |= {"num_detection_tokens": rng.randrange(1, 9)}
        # Theirs counts the positions between layers as if patches could be cut.
        whole = sides[0] * sides[1] // patch**2 == rows * columns
        settings |= {"use_mid_position_embeddings": whole and rng.random() < 0.7}
    config = getattr(transformers, f"{kind[:5] if yolos else 'ViT'}Config")(**settings)
    more = {"add_pooling_layer": rng.random() < 0.7} if kind == "ViTModel" else {}
    model = getattr(transformers, kind)(config, **more).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if "layernorm" in name and name.endswith("weight") else 0.0
            parameter.copy_(around + 0.2 * torch.randn_like(parameter))
    return rng, model


def answers(model: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    if model.config.model_type == "yolos":
        found = model(pixels)
        return [found.logits, found.pred_boxes]
    found = model(pixels, interpolate_pos_encoding=True)
    if "logits" in found:
        return [found.logits]
    summary = found.pooler_output
    return [found.last_hidden_state, *([] if summary is None else [summary])]


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        pytest.param(kind, n, id=f"{kind}-{n}", marks=pytest.mark.slow if n >= FAST else ())
        for kind in KINDS
        for n in range(ALL)
    ],
)
def test_a_model_of_theirs(kind: str, number: int, tmp_path: Path) -> None:
    """In: the same numbers, also of other sizes. Out: the same bits, and they load it."""
    rng, theirs = drawn(kind, number)
    theirs.save_pretrained(tmp_path / "theirs")
    write_run(read_hf(tmp_path / "theirs"), tmp_path / "run")
    ours = regard.load(tmp_path / "run").model
    config, patch = theirs.config, theirs.config.patch_size
    size = config.image_size if isinstance(config.image_size, list) else [config.image_size] * 2
    other = [patch * rng.randrange(1, 9) + rng.randrange(patch) for _ in range(2)]
    for height, width in (size, other):
        pixels = torch.randn(2, config.num_channels, height, width)
        made = ours(pixels)
        made = list(made) if isinstance(made, tuple) else [made]
        for expected, one in zip(answers(theirs, pixels), made, strict=True):
            assert expected.shape == one.shape
            assert (expected - one).abs().max() < TOLERANCE
    export_hf(tmp_path / "run", tmp_path / "back")
    before, after = (read_tensors(tmp_path / one) for one in ("theirs", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    again, told = type(theirs).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(told.values()) or (kind == "ViTModel" and ours.pooler is None), told
    held = again.state_dict()
    assert all(torch.equal(held[key], value) for key, value in theirs.state_dict().items())
