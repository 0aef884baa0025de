"""llama2.c's files: a header of seven numbers, then float32 weights, one part after another.

Its queries and keys are turned in neighbouring pairs (rotary's ``interleaved`` layout). The tables
of angles at the file's end are computed anew.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.errors import InputError

HEADER = struct.Struct("<7i")

Weights = dict[str, Tensor]


def read_weights(path: Path) -> tuple[dict[str, Any], Weights]:
    """Our settings of the model, and its tensors under the names of Llama's format.

    Raises:
        InputError: the file is not one of llama2.c's, or cut short.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) < HEADER.size:
        raise InputError("is too short for llama2.c's header", where=str(path))
    width, hidden, layers, heads, kv_heads, vocabulary, context = HEADER.unpack_from(raw)
    numbers = (width, hidden, layers, heads, kv_heads, abs(vocabulary), context)
    if min(numbers) < 1 or width % heads or heads % kv_heads:
        raise InputError(f"is no llama2.c file: its header is {numbers}", where=str(path))
    d_head = width // heads
    shapes = _shapes(width, hidden, layers, d_head * kv_heads, abs(vocabulary))
    tied = vocabulary > 0  # a negative vocabulary says that the head is a matrix of its own
    angles = context * d_head // 2 * 2
    head = 0 if tied else abs(vocabulary) * width
    wanted = sum(int(np.prod(shape)) for shape in shapes.values()) + angles + head
    held = (len(raw) - HEADER.size) // 4
    if held != wanted or len(raw) % 4:
        raise InputError(f"holds {held:,} numbers, its header asks for {wanted:,}", where=str(path))
    values = torch.from_numpy(np.frombuffer(raw, "<f4", offset=HEADER.size).copy())
    found: Weights = {}
    start = 0
    for name, shape in shapes.items():
        end = start + int(np.prod(shape))
        part, start = values[start:end].view(shape), end
        if "{}" in name:
            found |= {name.replace("{}", str(layer)): part[layer] for layer in range(layers)}
        else:
            found[name] = part
    if not tied:
        found["lm_head.weight"] = values[-head:].view(-1, width)
    return _settings(numbers, tied=tied), found


def _shapes(
    width: int, hidden: int, layers: int, kv_width: int, vocabulary: int
) -> dict[str, tuple[int, ...]]:
    """The file's parts in their order, under Llama's names."""
    return {
        "embed_tokens.weight": (vocabulary, width),
        "layers.{}.input_layernorm.weight": (layers, width),
        "layers.{}.self_attn.q_proj.weight": (layers, width, width),
        "layers.{}.self_attn.k_proj.weight": (layers, kv_width, width),
        "layers.{}.self_attn.v_proj.weight": (layers, kv_width, width),
        "layers.{}.self_attn.o_proj.weight": (layers, width, width),
        "layers.{}.post_attention_layernorm.weight": (layers, width),
        "layers.{}.mlp.gate_proj.weight": (layers, hidden, width),
        "layers.{}.mlp.down_proj.weight": (layers, width, hidden),
        "layers.{}.mlp.up_proj.weight": (layers, hidden, width),
        "norm.weight": (width,),
    }


def _settings(numbers: tuple[int, ...], *, tied: bool) -> dict[str, Any]:
    width, hidden, layers, heads, kv_heads, vocabulary, context = numbers
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_layers": layers,
        "max_positions": context,
        "tie": "all" if tied else "none",
        "positions": {"kind": "rotary", "layout": "interleaved"},
        "embedding": {"dropout": 0.0},
        "layer": {
            "dropout": 0.0,
            "norm": {"kind": "rmsnorm", "eps": 1e-5},
            "attention": {"num_heads": heads, "num_kv_heads": kv_heads, "bias": False},
            "feed_forward": {"kind": "gated", "d_ff": hidden, "activation": "silu", "bias": False},
        },
    }
