"""T5 as Hugging Face has it, v1.0 and v1.1: one table of biases stands in each stack's first block.

What their config says about the head has changed its meaning: there ``scale_decoder_outputs`` says
whether states are scaled before it, older files by ``tie_word_embeddings``; whether it is the
embedding's matrix, only the weights tell.
"""

from __future__ import annotations

from typing import Any

from regard.interop.format import Format, inverse
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.t5 import STACKS, T5Config

_HEAD = "lm_head.weight"
_OWN, _CROSS = "self_attention.sublayer", "cross_attention.sublayer"
_ATTENTION = {
    f"{_OWN}.qkv.weight[queries]": "0.SelfAttention.q",
    f"{_OWN}.qkv.weight[keys]": "0.SelfAttention.k",
    f"{_OWN}.qkv.weight[values]": "0.SelfAttention.v",
    f"{_OWN}.output.weight": "0.SelfAttention.o",
    "self_attention.norm.weight": "0.layer_norm",
}
_MEMORY = {
    f"{_CROSS}.query.weight": "1.EncDecAttention.q",
    f"{_CROSS}.key_value.weight[keys]": "1.EncDecAttention.k",
    f"{_CROSS}.key_value.weight[values]": "1.EncDecAttention.v",
    f"{_CROSS}.output.weight": "1.EncDecAttention.o",
    "cross_attention.norm.weight": "1.layer_norm",
}
_PLAIN = {"expand.weight": "wi"}
_GATED = {"expand.weight[gate]": "wi_0", "expand.weight[up]": "wi_1"}
_BIASES = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def table(config: Any) -> Table:
    """Which tensor is which."""
    entries = [Entry("embedding.weight", "shared.weight"), Entry("head.weight", _HEAD)]
    for stack in STACKS:
        last = 1 if stack == "encoder" else 2
        gated = getattr(config, stack).layer.feed_forward.kind == "gated"
        hidden = {**(_GATED if gated else _PLAIN), "contract.weight": "wo"}
        names = {
            **_ATTENTION,
            **(_MEMORY if stack == "decoder" else {}),
            **{
                f"feed_forward.sublayer.{ours}": f"{last}.DenseReluDense.{theirs}"
                for ours, theirs in hidden.items()
            },
            "feed_forward.norm.weight": f"{last}.layer_norm",
        }
        entries.append(Entry(f"{stack}.positions.weight", f"{stack}.{_BIASES}"))
        entries.append(Entry(f"{stack}.norm.weight", f"{stack}.final_layer_norm.weight"))
        for ours, theirs in names.items():
            entry = Entry(
                f"{stack}.layers.{{}}.{ours}", f"{stack}.block.{{}}.layer.{theirs}.weight"
            )
            entries.append(entry)
    return entries


def tied(config: Any) -> list[tuple[str, str]]:
    """The embeddings of both stacks, and the head where it is one of them."""
    others = [f"{stack}.embed_tokens.weight" for stack in STACKS]
    return [("shared.weight", other) for other in [*others, *[_HEAD] * (config.tie == "all")]]


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    given.expect(is_encoder_decoder=True, is_decoder=False)
    # What others repeat, of heads that this architecture lacks, and of the start of training.
    given.ignore(["dense_act_fn", "is_gated_act", "classifier_dropout", "initializer_factor"])
    scaled = given.take("tie_word_embeddings", True)
    dropout = given.take("dropout_rate", 0.1)
    num_layers, width = given.take("num_layers", 6), given.take("d_kv", 64)
    by_distance = {
        "kind": "buckets",
        "num_buckets": given.take("relative_attention_num_buckets", 32),
        "max_distance": given.take("relative_attention_max_distance", 128),
    }
    return {
        "vocab_size": given.take("vocab_size", 32128),
        "d_model": given.take("d_model", 512),
        "tie": "none" if given.differ("shared.weight", _HEAD) else "all",
        "scale_states": given.take("scale_decoder_outputs", scaled),
        "max_positions": given.take("n_positions", 512),
        "embedding": {"dropout": dropout},
        "encoder": {"num_layers": num_layers, "positions": by_distance},
        "decoder": {
            "num_layers": given.take("num_decoder_layers", None) or num_layers,
            "positions": {**by_distance, "bidirectional": False},
        },
        "layer": {
            "dropout": dropout,
            "norm": {"eps": given.take("layer_norm_epsilon", 1e-6)},
            "attention": {
                "num_heads": given.take("num_heads", 8),
                "d_key": width,
                "d_value": width,
                "dropout": dropout,
            },
            "feed_forward": {
                **_read_activation(given),
                "d_ff": given.take("d_ff", 2048),
                "dropout": dropout,
            },
        },
    }


def _read_activation(given: Settings) -> dict[str, Any]:
    gated = {f"gated-{theirs}": ("gated", ours) for theirs, ours in ACTIVATIONS.items()}
    gated["gated-gelu"] = ("gated", "gelu_tanh")  # where alone "gelu" is "gelu_new"
    words = {theirs: ("plain", ours) for theirs, ours in ACTIVATIONS.items()} | gated
    kind, activation = given.translate("feed_forward_proj", words, "relu")
    return {"kind": kind, "activation": activation}


def write(config: T5Config) -> dict[str, Any]:
    """Their settings."""
    layer, (_, options) = config.encoder.layer, config.encoder.positions.resolve()
    width, _ = layer.attention.widths(config.d_model)
    activation = inverse(ACTIVATIONS)[layer.feed_forward.activation]
    if layer.feed_forward.kind == "gated":
        activation = "gated-gelu" if activation == "gelu_new" else f"gated-{activation}"
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_kv": width,
        "d_ff": layer.feed_forward.d_ff,
        "num_layers": config.encoder.num_layers,
        "num_decoder_layers": config.decoder.num_layers,
        "num_heads": layer.attention.num_heads,
        "n_positions": config.max_positions,
        "relative_attention_num_buckets": options.num_buckets,
        "relative_attention_max_distance": options.max_distance,
        "feed_forward_proj": activation,
        "dropout_rate": config.embedding.dropout,
        "layer_norm_epsilon": layer.norm.eps,
        "tie_word_embeddings": config.scale_states,
        "scale_decoder_outputs": config.scale_states,
    }


FORMAT = Format(
    model_type="t5",
    family="t5",
    architectures={"T5ForConditionalGeneration": ""},
    read=read,
    write=write,
    table=table,
    tied=tied,
    # Of cross-attention, which has no positions; old files hold it all the same.
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)
