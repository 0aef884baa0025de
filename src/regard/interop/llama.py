"""Llama as Hugging Face has it: queries and keys in halves, as our rotary positions turn them."""

from __future__ import annotations

from typing import Any

from regard.interop.format import Format, inverse, pairs
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.gpt import GPTConfig

_LAYER = "decoder.layers.{}"
_ATTENTION, _HIDDEN = f"{_LAYER}.self_attention", f"{_LAYER}.feed_forward"
_OURS = {
    "embedding.weight": "embed_tokens.weight",
    "decoder.norm.weight": "norm.weight",
    "head.weight": "lm_head.weight",
    f"{_ATTENTION}.norm.weight": "layers.{}.input_layernorm.weight",
    f"{_HIDDEN}.norm.weight": "layers.{}.post_attention_layernorm.weight",
}
_PROJECTIONS = {
    f"{_ATTENTION}.sublayer.output": "layers.{}.self_attn.o_proj",
    f"{_HIDDEN}.sublayer.contract": "layers.{}.mlp.down_proj",
}
_SLICES = {
    (f"{_ATTENTION}.sublayer.qkv", "queries"): "layers.{}.self_attn.q_proj",
    (f"{_ATTENTION}.sublayer.qkv", "keys"): "layers.{}.self_attn.k_proj",
    (f"{_ATTENTION}.sublayer.qkv", "values"): "layers.{}.self_attn.v_proj",
    (f"{_HIDDEN}.sublayer.expand", "gate"): "layers.{}.mlp.gate_proj",
    (f"{_HIDDEN}.sublayer.expand", "up"): "layers.{}.mlp.up_proj",
}
_LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_positions",
}


def table(config: Any) -> Table:
    """Which tensor is which."""
    same = {**_OURS, **pairs(_PROJECTIONS)}
    entries = [Entry(ours, theirs) for ours, theirs in same.items()]
    for (name, part), theirs in _SLICES.items():
        entries += [
            Entry(f"{name}.{kind}[{part}]", f"{theirs}.{kind}") for kind in ("weight", "bias")
        ]
    return entries


def tied(config: Any) -> list[tuple[str, str]]:
    """The head where it is the embedding."""
    return [("embed_tokens.weight", "lm_head.weight")] if config.tie == "all" else []


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    given.expect(pretraining_tp=1)
    width, heads = given.take("hidden_size"), given.take("num_attention_heads")
    return {
        "vocab_size": given.take("vocab_size"),
        "d_model": width,
        "num_layers": given.take("num_hidden_layers"),
        "max_positions": given.take("max_position_embeddings", 2048),
        "tie": "all" if given.take("tie_word_embeddings", False) else "none",
        "positions": _read_rotary(given),
        "embedding": {"dropout": 0.0},
        "layer": {
            "dropout": 0.0,
            "norm": {"kind": "rmsnorm", "eps": given.take("rms_norm_eps", 1e-6)},
            "attention": {
                "num_heads": heads,
                "num_kv_heads": given.take("num_key_value_heads", None) or heads,
                "d_key": (d_head := given.take("head_dim", None) or width // heads),
                "d_value": d_head,
                "bias": given.take("attention_bias", False),
                "dropout": given.take("attention_dropout", 0.0),
            },
            "feed_forward": {
                "kind": "gated",
                "d_ff": given.take("intermediate_size"),
                "activation": given.translate("hidden_act", ACTIVATIONS, "silu"),
                "bias": given.take("mlp_bias", False),
            },
        },
    }


def _read_rotary(given: Settings) -> dict[str, Any]:
    base = given.take("rope_theta", None)
    older, newer = given.take("rope_scaling", None), given.take("rope_parameters", None)
    if older and newer and older != newer:
        raise given.refusal("rope_scaling and rope_parameters disagree")
    scaling = Settings(newer or older or {}, f"{given.where}: rope_parameters")
    own = scaling.take("rope_theta", None)
    found: dict[str, Any] = {"kind": "rotary", "base": float(own or base or 10_000.0)}
    kind = scaling.take("rope_type", None) or scaling.take("type", "default")
    scaling.ignore(["type"])
    if kind == "linear":
        found |= {"scaling": "linear", "factor": float(scaling.take("factor"))}
    elif kind == "llama3":
        found["scaling"] = "llama3"
        for theirs, ours in _LLAMA3.items():
            value = scaling.take(theirs)
            found[ours] = int(value) if ours == "original_max_positions" else float(value)
    elif kind != "default":
        raise scaling.refusal(f"rope_type = {kind!r} is not supported")
    scaling.done()
    return found


def write(config: GPTConfig) -> dict[str, Any]:
    """Their settings."""
    layer = config.layer
    d_key, _ = layer.attention.widths(config.d_model)
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": layer.attention.num_heads,
        "num_key_value_heads": layer.attention.kv_heads,
        "head_dim": d_key,
        "intermediate_size": layer.feed_forward.d_ff,
        "max_position_embeddings": config.max_positions,
        "hidden_act": inverse(ACTIVATIONS)[layer.feed_forward.activation],
        "rms_norm_eps": layer.norm.eps,
        "tie_word_embeddings": config.tie == "all",
        "attention_bias": layer.attention.bias,
        "attention_dropout": layer.attention.dropout,
        "mlp_bias": layer.feed_forward.bias,
        "rope_parameters": _write_rotary(config),
    }


def _write_rotary(config: GPTConfig) -> dict[str, Any]:
    _, options = config.positions.resolve()
    found = {"rope_theta": options.base, "rope_type": "default"}
    if options.scaling == "linear":
        found |= {"rope_type": "linear", "factor": options.factor}
    elif options.scaling == "llama3":
        found["rope_type"] = "llama3"
        found |= {theirs: getattr(options, ours) for theirs, ours in _LLAMA3.items()}
    return found


FORMAT = Format(
    model_type="llama",
    family="gpt",
    architectures={"LlamaForCausalLM": "model.", "LlamaModel": ""},
    read=read,
    write=write,
    table=table,
    tied=tied,
    ignored=("layers.{}.self_attn.rotary_emb.inv_freq",),
)
