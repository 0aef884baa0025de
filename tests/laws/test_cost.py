"""Law: what a model costs is known before it is built.

Parameters are exact; FLOPs are those of torch's counter and saved bytes those of autograd, both
under the dense kernel on a model with numbers; resident memory comes within 25 per cent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regard import registry
from regard.cost import KEPT_HEAP, cost, example, on_meta, saved_bytes
from regard.models import Transformer, TransformerConfig
from regard.nn import backend, kernels

from ._cases import Case, law

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no dropout": {"layer.dropout": 0.0, "embedding.dropout": 0.0},
    "dropout everywhere": {"layer.attention.dropout": 0.1, "layer.feed_forward.dropout": 0.1},
    "pre-norm, learned, gelu": {
        "layer.norm_placement": "pre",
        "positions": "learned",
        "layer.feed_forward.activation": "gelu",
    },
    "narrow keys, shared heads, silu": {
        "layer.attention.d_key": 3,
        "layer.attention.num_kv_heads": 2,
        "layer.feed_forward.activation": "silu",
    },
    "nothing tied, no biases": {
        "tie": "none",
        "head.bias": True,
        "layer.attention.bias": False,
        "layer.feed_forward.bias": False,
        "layer.norm.bias": False,
    },
    "unequal stacks": {"encoder.num_layers": 3, "decoder.num_layers": 1, "embedding.scale": False},
}


def tiny(overrides: dict[str, Any]) -> TransformerConfig:
    base = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, "max_positions": 64}
    return TransformerConfig.preset("tiny", vocab_size=23, overrides=base | overrides)


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest) -> TransformerConfig:
    return tiny(VARIANTS[request.param])


@pytest.fixture(autouse=True)
def _plain_products(by_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's counter knows torch's products, not a machine's private ones, and a cost is that of
    the parts: C++ keeps no dropout masks."""
    monkeypatch.setattr(backend, "linear", nn.functional.linear)


@law(pairs=False)
def test_every_familys_parameters_and_flops(case: Case) -> None:
    family, config = case.family, case.config()
    model = family.model(config)
    found = cost(family, config, lengths=(9,))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    with kernels.use("dense"), FlopCounterMode(display=False) as counter:
        model.eval()(**example(family, config, 2, 9, "cpu"))
    assert counter.get_total_flops() == pytest.approx(2 * 9 * found.lengths[0].forward, abs=2 * 9)


def test_parameters(config: TransformerConfig) -> None:
    model = Transformer(config)
    assert cost("transformer", config).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 7), (3, 33)])
def test_flops_of_forward_and_training(config: TransformerConfig, batch: int, length: int) -> None:
    family, model = registry.family("transformer"), Transformer(config)
    row = cost(family, config, lengths=(length,)).lengths[0]
    with kernels.use("dense"), FlopCounterMode(display=False) as counter:
        logits = model(**example(family, config, batch, length, "cpu"))
    assert counter.get_total_flops() == batch * length * row.forward
    with kernels.use("dense"), FlopCounterMode(display=False) as counter:
        logits = model(**example(family, config, batch, length, "cpu"))
        logits.sum().backward()
    assert counter.get_total_flops() == batch * length * row.training


def test_flops_by_hand() -> None:
    """The textbook's terms, with nothing of ours in them."""
    d, d_ff, heads, layers, vocabulary, n = 16, 24, 4, 2, 23, 10
    found = cost("transformer", tiny({}), lengths=(n,))
    attention = layers * 3 * 2 * 2 * n * (d // heads) * heads
    linear = layers * (3 * 2 * 4 * d * d + 2 * 2 * 2 * d * d_ff) + 2 * d * vocabulary
    assert (found.lengths[0].linear, found.lengths[0].attention) == (linear, attention)


def kept_by_autograd(model: nn.Module, inputs: dict[str, Any]) -> int:
    """Counted anew, by the addresses of real memory."""
    own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    held = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held.append(tensor)
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with kernels.use("dense"), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model.train().features(**inputs)  # type: ignore[operator]
    return sum(kept.values())


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 7), (3, 33)])
def test_saved_bytes(config: TransformerConfig, batch: int, length: int) -> None:
    family = registry.family("transformer")
    predicted = saved_bytes(on_meta(family, config), example(family, config, batch, length))
    measured = kept_by_autograd(Transformer(config), example(family, config, batch, length, "cpu"))
    assert sum(predicted.values()) == measured


STEP = """
import json, sys
import torch
from regard import registry
from regard.models import Transformer, TransformerConfig
from regard.nn import backend, kernels
from regard.cost import example

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

settings = json.loads(sys.argv[1])
config = TransformerConfig.preset("base", vocab_size=1000, overrides=settings["overrides"])
family = registry.family("transformer")
warm = Transformer(TransformerConfig.preset("tiny", vocab_size=10))
optimizer = torch.optim.Adam(warm.parameters())
warm(**example(family, warm.config, 2, 4, "cpu")).sum().backward()
optimizer.step()
if settings["kept"]:
    backend.keep_heap()
start = resident()
model = Transformer(config)
for stack in (model.encoder, model.decoder):
    stack.gradient_checkpointing = settings["checkpointing"]
optimizer = torch.optim.Adam(model.parameters())
inputs = example(family, config, settings["batch"], settings["length"], "cpu")
with kernels.use("dense"):
    for _ in range(2):
        for _ in range(2):
            model.features(**inputs).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
print(json.dumps(peak() - start))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("batch", "length", "overrides", "kept", "checkpointing"),
    [
        (16, 64, {}, False, False),
        (16, 64, {}, True, False),
        (48, 32, {"num_layers": 3}, False, False),
        (48, 32, {"num_layers": 3}, True, False),
        (4, 256, {"num_layers": 2, "layer.dropout": 0.0}, False, False),
        (4, 256, {"num_layers": 2, "layer.dropout": 0.0}, True, False),
        (24, 64, {"num_layers": 4}, False, True),
    ],
)
def test_resident_memory(
    batch: int, length: int, overrides: dict[str, Any], kept: bool, checkpointing: bool
) -> None:
    settings = {
        "batch": batch,
        "length": length,
        "overrides": overrides,
        "checkpointing": checkpointing,
        "kept": kept,
    }
    run = subprocess.run(
        [sys.executable, "-c", STEP, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ if kept else os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16)},
    )
    config = TransformerConfig.preset("base", vocab_size=1000, overrides=overrides)
    found = cost("transformer", config, lengths=(length,))
    used = found.step(batch * length, length, checkpointing=checkpointing)
    assert (KEPT_HEAP if kept else 1) * used == pytest.approx(json.loads(run.stdout), rel=0.25)
