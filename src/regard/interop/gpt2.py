"""GPT-2 as Hugging Face has it; its matrices are stored [in, out]."""

from __future__ import annotations

from typing import Any

from regard.interop.format import Format, inverse, pairs
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.gpt import GPTConfig

ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

_LAYER = "decoder.layers.{}"
_LINEAR = {
    f"{_LAYER}.self_attention.sublayer.qkv": "h.{}.attn.c_attn",
    f"{_LAYER}.self_attention.sublayer.output": "h.{}.attn.c_proj",
    f"{_LAYER}.feed_forward.sublayer.expand": "h.{}.mlp.c_fc",
    f"{_LAYER}.feed_forward.sublayer.contract": "h.{}.mlp.c_proj",
}
_NORMS = {
    f"{_LAYER}.self_attention.norm": "h.{}.ln_1",
    f"{_LAYER}.feed_forward.norm": "h.{}.ln_2",
    "decoder.norm": "ln_f",
}
_TABLES = {
    "embedding.weight": "wte.weight",
    "decoder.positions.weight": "wpe.weight",
    "head.weight": "lm_head.weight",
}


def table(config: Any) -> Table:
    """Which tensor is which."""
    turned = [Entry(a, b, transpose=True) for a, b in pairs(_LINEAR, ("weight",)).items()]
    same = {**_TABLES, **pairs(_LINEAR, ("bias",)), **pairs(_NORMS)}
    return [*turned, *(Entry(ours, theirs) for ours, theirs in same.items())]


def tied(config: Any) -> list[tuple[str, str]]:
    """The head where it is the embedding."""
    return [("wte.weight", "lm_head.weight")] if config.tie == "all" else []


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    width, positions = given.take("n_embd", 768), given.take("n_positions", 1024)
    given.expect(
        n_ctx=positions,
        add_cross_attention=False,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
    )
    given.ignore(["reorder_and_upcast_attn"])  # the same numbers in another order
    activation = given.translate("activation_function", ACTIVATIONS, "gelu_new")
    d_ff = given.take("n_inner", None) or 4 * width
    return {
        "vocab_size": given.take("vocab_size", 50257),
        "d_model": width,
        "num_layers": given.take("n_layer", 12),
        "max_positions": positions,
        "tie": "all" if given.take("tie_word_embeddings", True) else "none",
        "embedding": {"dropout": given.take("embd_pdrop", 0.1)},
        "layer": {
            "dropout": given.take("resid_pdrop", 0.1),
            "norm": {"eps": given.take("layer_norm_epsilon", 1e-5)},
            "attention": {
                "num_heads": given.take("n_head", 12),
                "dropout": given.take("attn_pdrop", 0.1),
            },
            "feed_forward": {"d_ff": d_ff, "activation": activation},
        },
    }


def write(config: GPTConfig) -> dict[str, Any]:
    """Their settings."""
    layer = config.layer
    return {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": layer.attention.num_heads,
        "n_positions": config.max_positions,
        "n_inner": layer.feed_forward.d_ff,
        "activation_function": inverse(ACTIVATIONS)[layer.feed_forward.activation],
        "tie_word_embeddings": config.tie == "all",
        "layer_norm_epsilon": layer.norm.eps,
        "embd_pdrop": config.embedding.dropout,
        "resid_pdrop": layer.dropout,
        "attn_pdrop": layer.attention.dropout,
    }


FORMAT = Format(
    model_type="gpt2",
    family="gpt",
    architectures={"GPT2LMHeadModel": "transformer.", "GPT2Model": ""},
    read=read,
    write=write,
    table=table,
    tied=tied,
    ignored=("h.{}.attn.bias", "h.{}.attn.masked_bias"),
)
