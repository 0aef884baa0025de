"""BERT as Hugging Face has it: its states, and its masked-language-model head."""

from __future__ import annotations

from typing import Any

from regard.interop.format import Format, inverse, pairs
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.bert import BERTConfig

_LAYER, _THEIRS = "encoder.layers.{}", "encoder.layer.{}"
_MODULES = {
    "encoder.input_norm": "embeddings.LayerNorm",
    f"{_LAYER}.self_attention.sublayer.output": f"{_THEIRS}.attention.output.dense",
    f"{_LAYER}.self_attention.norm": f"{_THEIRS}.attention.output.LayerNorm",
    f"{_LAYER}.feed_forward.sublayer.expand": f"{_THEIRS}.intermediate.dense",
    f"{_LAYER}.feed_forward.sublayer.contract": f"{_THEIRS}.output.dense",
    f"{_LAYER}.feed_forward.norm": f"{_THEIRS}.output.LayerNorm",
    "pooler.linear": "pooler.dense",
    "head.hidden": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
}
_TABLES = {
    "embedding.weight": "embeddings.word_embeddings.weight",
    "segment_embedding.weight": "embeddings.token_type_embeddings.weight",
    "encoder.positions.weight": "embeddings.position_embeddings.weight",
    "head.bias": "cls.predictions.bias",
}
_SLICES = {"queries": "query", "keys": "key", "values": "value"}


def table(config: Any) -> Table:
    """Which tensor is which."""
    entries = [Entry(ours, theirs) for ours, theirs in {**_TABLES, **pairs(_MODULES)}.items()]
    for part, name in _SLICES.items():
        for kind in ("weight", "bias"):
            slot = f"{_LAYER}.self_attention.sublayer.qkv.{kind}[{part}]"
            entries.append(Entry(slot, f"{_THEIRS}.attention.self.{name}.{kind}"))
    return entries


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    given.expect(
        is_decoder=False,
        add_cross_attention=False,
        position_embedding_type="absolute",
        chunk_size_feed_forward=0,
        pruned_heads=None,
        tie_word_embeddings=True,
    )
    given.ignore(["classifier_dropout"])
    activation = given.translate("hidden_act", ACTIVATIONS, "gelu")
    masked = given.architecture == "BertForMaskedLM"
    pooler = given.holds("pooler.dense.weight")
    return {
        "vocab_size": given.take("vocab_size", 30522),
        "d_model": given.take("hidden_size", 768),
        "num_layers": given.take("num_hidden_layers", 12),
        "num_segments": given.take("type_vocab_size", 2),
        "max_positions": given.take("max_position_embeddings", 512),
        "pooler": pooler,
        "embedding": {"dropout": (dropout := given.take("hidden_dropout_prob", 0.1))},
        "layer": {
            "dropout": dropout,
            "norm": {"eps": given.take("layer_norm_eps", 1e-12)},
            "attention": {
                "num_heads": given.take("num_attention_heads", 12),
                "dropout": given.take("attention_probs_dropout_prob", 0.1),
            },
            "feed_forward": {
                "d_ff": given.take("intermediate_size", 3072),
                "activation": activation,
            },
        },
        "head": {"kind": "masked_lm", "activation": activation}
        if masked
        else ("pooled" if pooler else "none"),
    }


def write(config: BERTConfig) -> dict[str, Any]:
    """Their settings."""
    layer = config.layer
    return {
        "architectures": ["BertForMaskedLM" if config.head.kind == "masked_lm" else "BertModel"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": layer.attention.num_heads,
        "intermediate_size": layer.feed_forward.d_ff,
        "hidden_act": inverse(ACTIVATIONS)[layer.feed_forward.activation],
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.num_segments,
        "layer_norm_eps": layer.norm.eps,
        "hidden_dropout_prob": layer.dropout,
        "attention_probs_dropout_prob": layer.attention.dropout,
    }


FORMAT = Format(
    model_type="bert",
    family="bert",
    architectures={"BertForMaskedLM": "bert.", "BertModel": ""},
    read=read,
    write=write,
    table=table,
    ignored=(
        "embeddings.position_ids",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    ),
)
