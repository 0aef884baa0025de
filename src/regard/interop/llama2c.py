"""llama2.c's files: a header of seven numbers, then float32 weights, one part after another.

A tokenizer's file holds the length of its longest piece, then for each piece its score, its length
and its bytes; the first three are the unknown, the start and the end, then come 256 bytes.

Its queries and keys are turned in neighbouring pairs; their rows are put in the order that turns
them in halves, as Llama's weights in the field's form have them. The tables of angles at the file's
end are computed anew.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.data.tokenizers.base import SPACE, Tokenizer
from regard.data.tokenizers.imported import imported
from regard.errors import InputError
from regard.interop.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, Model, Piece, definition

HEADER = struct.Struct("<7i")
_TURNED = ("layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.k_proj.weight")
_LONGEST, _PIECE = struct.Struct("<i"), struct.Struct("<fi")

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
    if min(numbers) < 1 or width % (2 * heads) or heads % kv_heads:
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
        if name in _TURNED:
            part = _in_halves(part, d_head)
        if "{}" in name:
            found |= {name.replace("{}", str(layer)): part[layer] for layer in range(layers)}
        else:
            found[name] = part
    if not tied:
        found["lm_head.weight"] = values[-head:].view(-1, width)
    return _settings(numbers, tied=tied), found


def _in_halves(rows: Tensor, d_head: int) -> Tensor:
    """[L, H · d_head, d] with each head's even rows before its odd ones."""
    layers, _, width = rows.shape
    heads = rows.view(layers, -1, d_head // 2, 2, width)  # [L, H, pairs, 2, d]
    return heads.transpose(2, 3).flatten(1, 3)


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
        "positions": {"kind": "rotary"},
        "embedding": {"dropout": 0.0},
        "layer": {
            "dropout": 0.0,
            "norm": {"kind": "rmsnorm", "eps": 1e-5},
            "attention": {"num_heads": heads, "num_kv_heads": kv_heads, "bias": False},
            "feed_forward": {"kind": "gated", "d_ff": hidden, "activation": "silu", "bias": False},
        },
    }


def tokenizers_in(directory: Path) -> list[Path]:
    """The files that are tokenizers by their names: ``tokenizer.bin``, ``tok512.bin``."""
    return sorted(directory.glob("tok*.bin"))


def read_tokenizer(paths: Sequence[Path], vocab_size: int) -> tuple[Tokenizer, str]:
    """The tokenizer of so many entries; says which file it is.

    Raises:
        InputError: a file is damaged.
    """
    ids = {"unk": 0, "start": 1, "end": 2}
    for path in paths:
        pieces = _read_pieces(path, vocab_size)
        if pieces is not None:
            model = Model(pieces, "BPE", squeeze=False, byte_fallback=True, ids=dict(ids))
            made = imported(definition(model), ids, prefix=[1])
            return made, f"tokenizer: {path.name}"
    note = "there is no tokenizer of its size beside it: the run reads and writes ids alone"
    return imported({}, ids, prefix=[1], vocab_size=vocab_size), note


def _read_pieces(path: Path, vocab_size: int) -> list[Piece] | None:
    """The pieces of a file; None where they are more or fewer than wanted."""
    raw = path.read_bytes()
    place, pieces = _LONGEST.size, list[Piece]()
    try:
        while place < len(raw):
            score, size = _PIECE.unpack_from(raw, place)
            place += _PIECE.size
            text = raw[place : place + size].decode("utf-8")
            if size < 0 or len(raw) < place + size:
                raise ValueError("it is cut short")
            place += size
            number = len(pieces)
            kind = UNKNOWN if number == 0 else CONTROL if number < 3 else NORMAL
            if number < 3:
                text = ("<unk>", "<s>", "</s>")[number]
            elif number < 3 + 256:
                kind = BYTE
            pieces.append(Piece(text.replace(" ", SPACE), score, kind))
    except (struct.error, ValueError) as error:
        raise InputError(f"is no tokenizer of llama2.c: {error}", where=str(path)) from error
    return pieces if len(pieces) == vocab_size else None
