"""ViT as Hugging Face has it, with and without a classifier; what YOLOS shares with it."""

from __future__ import annotations

import math
from typing import Any

from regard.interop.bert import write_labels
from regard.interop.format import Format, inverse, pairs
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.vit import ViTConfig

_LAYER, _THEIRS = "encoder.layers.{}", "encoder.layer.{}"
_MODULES = {
    f"{_LAYER}.self_attention.sublayer.output": f"{_THEIRS}.attention.output.dense",
    f"{_LAYER}.self_attention.norm": f"{_THEIRS}.layernorm_before",
    f"{_LAYER}.feed_forward.sublayer.expand": f"{_THEIRS}.intermediate.dense",
    f"{_LAYER}.feed_forward.sublayer.contract": f"{_THEIRS}.output.dense",
    f"{_LAYER}.feed_forward.norm": f"{_THEIRS}.layernorm_after",
    "encoder.norm": "layernorm",
    "pooler.linear": "pooler.dense",
    "head.linear": "classifier",
}
_SLICES = {"queries": "query", "keys": "key", "values": "value"}
_PATCHES = "embeddings.patch_embeddings.projection"
POOLER = tuple(pairs({"pooler.dense": ""}))


def table(config: ViTConfig) -> Table:
    """Which tensor is which."""
    width, tokens = config.d_model, config.tokens
    kernel = (config.channels, config.patch_size, config.patch_size)
    entries = [
        Entry("class_token.weight", "embeddings.cls_token", axes=((1, width), (1, 1, width))),
        Entry(
            "embedding.linear.weight",
            f"{_PATCHES}.weight",
            axes=((width, math.prod(kernel)), (width, *kernel)),
        ),
        Entry("embedding.linear.bias", f"{_PATCHES}.bias"),
        Entry(
            "encoder.positions.weight",
            "embeddings.position_embeddings",
            axes=((tokens, width), (1, tokens, width)),
        ),
        *(Entry(ours, theirs) for ours, theirs in pairs(_MODULES).items()),
    ]
    for part, name in _SLICES.items():
        for kind in ("weight", "bias"):
            slot = f"{_LAYER}.self_attention.sublayer.qkv.{kind}[{part}]"
            entries.append(Entry(slot, f"{_THEIRS}.attention.attention.{name}.{kind}"))
    return entries


def read_body(given: Settings) -> dict[str, Any]:
    """Our settings of the body."""
    given.expect(qkv_bias=True)
    dropout = given.take("hidden_dropout_prob", 0.0)
    height, width = _pair(given.take("image_size", 224))
    patch, other = _pair(given.take("patch_size", 16))
    if other not in (None, patch):
        raise given.refusal(f"patch_size = {[patch, other]} is not supported: one is no square")
    return {
        "d_model": given.take("hidden_size", 768),
        "num_layers": given.take("num_hidden_layers", 12),
        "image_size": height,
        **({} if width is None else {"image_width": width}),
        "patch_size": patch,
        "channels": given.take("num_channels", 3),
        "embedding": {"dropout": dropout},
        "layer": {
            "dropout": dropout,
            "norm": {"eps": given.take("layer_norm_eps", 1e-12)},
            "attention": {
                "num_heads": given.take("num_attention_heads", 12),
                "dropout": given.take("attention_probs_dropout_prob", 0.0),
            },
            "feed_forward": {
                "d_ff": given.take("intermediate_size", 3072),
                "activation": given.translate("hidden_act", ACTIVATIONS, "gelu"),
            },
        },
    }


def _pair(size: Any) -> tuple[Any, Any]:
    """Theirs is a number, or a list of height and width."""
    if isinstance(size, list) and len(size) == 2:
        return size[0], size[1]
    return size, None


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    body = read_body(given)
    given.expect(pooler_act="tanh", pooler_output_size=(body["d_model"], None))
    given.ignore(["encoder_stride"])  # of a decoder of masked pixels
    if given.architecture == "ViTModel":
        pooler = given.holds(POOLER[0])
        return {**body, "pooler": pooler, "head": "pooled" if pooler else "none"}
    return {**body, "head": {"kind": "classification", "num_classes": classes_of(given)}}


def classes_of(given: Settings) -> int:
    """How many the head chooses between."""
    labels = given.take("id2label", None)
    return int(given.take("num_labels", 2)) if labels is None else len(labels)


def write_body(config: ViTConfig) -> dict[str, Any]:
    """Their settings of the body."""
    layer, width = config.layer, config.image_width
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": layer.attention.num_heads,
        "intermediate_size": layer.feed_forward.d_ff,
        "hidden_act": inverse(ACTIVATIONS)[layer.feed_forward.activation],
        "layer_norm_eps": layer.norm.eps,
        "hidden_dropout_prob": layer.dropout,
        "attention_probs_dropout_prob": layer.attention.dropout,
        "image_size": config.image_size if width is None else [config.image_size, width],
        "patch_size": config.patch_size,
        "num_channels": config.channels,
    }


def write(config: ViTConfig) -> dict[str, Any]:
    """Their settings."""
    ending = "ForImageClassification" if config.head.kind == "classification" else "Model"
    return {"architectures": ["ViT" + ending], **write_body(config), **write_labels(config)}


FORMAT = Format(
    model_type="vit",
    family="vit",
    architectures={"ViTForImageClassification": "vit.", "ViTModel": ""},
    read=read,
    write=write,
    table=table,
    unused={"ViTForImageClassification": POOLER},
    pixels=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)
