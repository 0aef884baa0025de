"""BERT as Hugging Face has it, with each of its heads; what RoBERTa shares with it."""

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
}
_TABLES = {
    "embedding.weight": "embeddings.word_embeddings.weight",
    "segment_embedding.weight": "embeddings.token_type_embeddings.weight",
    "encoder.positions.weight": "embeddings.position_embeddings.weight",
}
_SLICES = {"queries": "query", "keys": "key", "values": "value"}
SUMMARY = {"pooler.linear": "pooler.dense"}
_FOLLOWS = {"head.next_sentence": "cls.seq_relationship"}
POOLER = tuple(pairs({"pooler.dense": ""}))
"""A summary's tensors, in files whose architecture reads none."""
_MASKED = {
    "head.hidden": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
}
CHOOSING = {
    "classification": {"head.linear": "classifier"},
    "tokens": {"head.linear": "classifier"},
    "span": {"head.linear": "qa_outputs"},
}
"""Heads that are one linear map."""

ENDINGS = {
    "Model": "pooled",
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "masked_lm",
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "tokens",
    "ForQuestionAnswering": "span",
}
"""How an architecture's name ends that has one of our heads."""


def body(config: Any) -> list[Entry]:
    """Which tensor of the body is which."""
    entries = [Entry(ours, theirs) for ours, theirs in {**_TABLES, **pairs(_MODULES)}.items()]
    for part, name in _SLICES.items():
        for kind in ("weight", "bias"):
            slot = f"{_LAYER}.self_attention.sublayer.qkv.{kind}[{part}]"
            entries.append(Entry(slot, f"{_THEIRS}.attention.self.{name}.{kind}"))
    return entries


def table(config: Any) -> Table:
    """Which tensor is which."""
    modules = {**SUMMARY, **_FOLLOWS, **CHOOSING.get(config.head.kind, _MASKED)}
    heads = {"head.bias": "cls.predictions.bias", **pairs(modules)}
    return [*body(config), *(Entry(ours, theirs) for ours, theirs in heads.items())]


def tied(config: Any) -> list[tuple[str, str]]:
    """The masked head's matrix is the embedding."""
    return [
        ("embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ]


def read_body(given: Settings, activation: str) -> dict[str, Any]:
    """Our settings of the body."""
    given.expect(
        is_decoder=False,
        add_cross_attention=False,
        position_embedding_type="absolute",
        chunk_size_feed_forward=0,
        pruned_heads=(None, {}),
        tie_word_embeddings=True,
    )
    segments = given.take("type_vocab_size", 2)
    if segments < 1:
        raise given.refusal("type_vocab_size = 0 is not supported")
    return {
        "vocab_size": given.take("vocab_size", 30522),
        "d_model": given.take("hidden_size", 768),
        "num_layers": given.take("num_hidden_layers", 12),
        "num_segments": segments,
        "max_positions": given.take("max_position_embeddings", 512),
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
    }


def read_head(given: Settings, activation: str) -> Any:
    """Our settings of the head that the architecture's name says."""
    kind = next(kind for end, kind in ENDINGS.items() if given.architecture.endswith(end))
    given.ignore(["classifier_dropout"])  # in training; here it is that of the layers
    if kind == "masked_lm":
        follows = given.architecture.endswith("ForPreTraining")
        return {"kind": kind, "activation": activation, "next_sentence": follows}
    if kind == "pooled" and not given.holds(POOLER[0]):
        return "none"
    if kind not in ("classification", "tokens"):
        return kind
    labels = given.take("id2label", None)
    return {
        "kind": kind,
        "num_classes": given.take("num_labels", 2) if labels is None else len(labels),
    }


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    activation = given.translate("hidden_act", ACTIVATIONS, "gelu")
    return {**read_body(given, activation), "head": read_head(given, activation)}


def write(config: BERTConfig) -> dict[str, Any]:
    """Their settings."""
    layer = config.layer
    return {
        "architectures": ["Bert" + ending_of(config)],
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
        **write_labels(config),
    }


def ending_of(config: BERTConfig) -> str:
    """How the architecture's name ends."""
    if config.head.kind == "none":
        return "Model"
    _, options = config.head.resolve()
    if getattr(options, "next_sentence", False):
        return "ForPreTraining"
    return inverse(ENDINGS)[config.head.kind]


def write_labels(config: Any) -> dict[str, Any]:
    """Names of the classes, where the head chooses between some."""
    _, options = config.head.resolve()
    if not hasattr(options, "num_classes"):
        return {}
    labels = {str(i): f"LABEL_{i}" for i in range(options.num_classes)}
    ids = {label: int(i) for i, label in labels.items()}
    return {"id2label": labels, "label2id": ids}


FORMAT = Format(
    model_type="bert",
    family="bert",
    architectures={
        f"Bert{ending}": "" if ending == "Model" else "bert."
        for ending in ("ForMaskedLM", *(one for one in ENDINGS if one != "ForMaskedLM"))
    },
    read=read,
    write=write,
    table=table,
    tied=tied,
    ignored=("embeddings.position_ids",),
    unused={
        "BertForMaskedLM": (*pairs(dict.fromkeys(_FOLLOWS.values(), "")), *POOLER),
        "BertForTokenClassification": POOLER,
        "BertForQuestionAnswering": POOLER,
    },
)
