"""DistilBERT as Hugging Face has it: no segments, no pooler, names of its own.

Its classifier of texts has a hidden layer with ReLU, which no head of ours has: it is refused.
"""

from __future__ import annotations

from typing import Any

from regard.interop import bert
from regard.interop.format import Format, inverse, pairs
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.bert import BERTConfig

_LAYER, _THEIRS = "encoder.layers.{}", "transformer.layer.{}"
_MODULES = {
    "encoder.input_norm": "embeddings.LayerNorm",
    f"{_LAYER}.self_attention.sublayer.output": f"{_THEIRS}.attention.out_lin",
    f"{_LAYER}.self_attention.norm": f"{_THEIRS}.sa_layer_norm",
    f"{_LAYER}.feed_forward.sublayer.expand": f"{_THEIRS}.ffn.lin1",
    f"{_LAYER}.feed_forward.sublayer.contract": f"{_THEIRS}.ffn.lin2",
    f"{_LAYER}.feed_forward.norm": f"{_THEIRS}.output_layer_norm",
}
_TABLES = {
    "embedding.weight": "embeddings.word_embeddings.weight",
    "encoder.positions.weight": "embeddings.position_embeddings.weight",
    "head.bias": "vocab_projector.bias",
}
_SLICES = {"queries": "q_lin", "keys": "k_lin", "values": "v_lin"}
_MASKED = {"head.hidden": "vocab_transform", "head.norm": "vocab_layer_norm"}


def table(config: Any) -> Table:
    """Which tensor is which."""
    modules = {**_MODULES, **bert.CHOOSING.get(config.head.kind, _MASKED)}
    entries = [Entry(ours, theirs) for ours, theirs in {**_TABLES, **pairs(modules)}.items()]
    for part, name in _SLICES.items():
        for kind in ("weight", "bias"):
            slot = f"{_LAYER}.self_attention.sublayer.qkv.{kind}[{part}]"
            entries.append(Entry(slot, f"{_THEIRS}.attention.{name}.{kind}"))
    return entries


def tied(config: Any) -> list[tuple[str, str]]:
    """The masked head's matrix is the embedding."""
    return [("embeddings.word_embeddings.weight", "vocab_projector.weight")]


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    given.expect(chunk_size_feed_forward=0, pruned_heads=(None, {}), tie_word_embeddings=True)
    # How tables were drawn at first, and dropouts of heads, which have that of the layers here.
    given.ignore(["sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout", "tie_weights_"])
    activation = given.translate("activation", ACTIVATIONS, "gelu")
    dropout = given.take("dropout", 0.1)
    return {
        "vocab_size": given.take("vocab_size", 30522),
        "d_model": given.take("dim", 768),
        "num_layers": given.take("n_layers", 6),
        "num_segments": 0,
        "max_positions": given.take("max_position_embeddings", 512),
        "embedding": {"dropout": dropout},
        "layer": {
            "dropout": dropout,
            "norm": {"eps": 1e-12},
            "attention": {
                "num_heads": given.take("n_heads", 12),
                "dropout": given.take("attention_dropout", 0.1),
            },
            "feed_forward": {
                "d_ff": given.take("hidden_dim", 3072),
                "activation": activation,
                "dropout": 0.0,
            },
        },
        "head": bert.read_head(given, activation),
    }


def write(config: BERTConfig) -> dict[str, Any]:
    """Their settings."""
    layer = config.layer
    return {
        "architectures": ["DistilBert" + bert.ending_of(config)],
        "vocab_size": config.vocab_size,
        "dim": config.d_model,
        "n_layers": config.num_layers,
        "n_heads": layer.attention.num_heads,
        "hidden_dim": layer.feed_forward.d_ff,
        "activation": inverse(ACTIVATIONS)[layer.feed_forward.activation],
        "max_position_embeddings": config.max_positions,
        "dropout": layer.dropout,
        "attention_dropout": layer.attention.dropout,
        **bert.write_labels(config),
    }


FORMAT = Format(
    model_type="distilbert",
    family="bert",
    architectures={
        "DistilBertForMaskedLM": "distilbert.",
        "DistilBertModel": "",
        "DistilBertForTokenClassification": "distilbert.",
        "DistilBertForQuestionAnswering": "distilbert.",
    },
    read=read,
    write=write,
    table=table,
    tied=tied,
    ignored=("embeddings.position_ids",),
)
