"""Marian as Hugging Face has it: the original Transformer with sinusoids in halves.

Its output bias is ``final_logits_bias`` [1, V]; its decoder starts from the padding token.
"""

from __future__ import annotations

from typing import Any

from regard.interop.format import Format, inverse, pairs
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.transformer import TransformerConfig

STACKS = ("encoder", "decoder")
_MODULES = {
    "self_attention.sublayer.output": "self_attn.out_proj",
    "self_attention.norm": "self_attn_layer_norm",
    "cross_attention.sublayer.output": "encoder_attn.out_proj",
    "cross_attention.norm": "encoder_attn_layer_norm",
    "feed_forward.sublayer.expand": "fc1",
    "feed_forward.sublayer.contract": "fc2",
    "feed_forward.norm": "final_layer_norm",
    "cross_attention.sublayer.query": "encoder_attn.q_proj",
}
_SLICES = {
    ("self_attention.sublayer.qkv", "queries"): "self_attn.q_proj",
    ("self_attention.sublayer.qkv", "keys"): "self_attn.k_proj",
    ("self_attention.sublayer.qkv", "values"): "self_attn.v_proj",
    ("cross_attention.sublayer.key_value", "keys"): "encoder_attn.k_proj",
    ("cross_attention.sublayer.key_value", "values"): "encoder_attn.v_proj",
}
_SOURCE, _TARGET = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"


def table(config: Any) -> Table:
    """Which tensor is which."""
    shared, words = config.tie == "all", config.target_vocabulary
    entries = [
        Entry("source_embedding.weight", "shared.weight" if shared else _SOURCE),
        Entry("target_embedding.weight", _TARGET),
        Entry("head.weight", "lm_head.weight"),
        Entry("head.bias", "final_logits_bias", axes=((words,), (1, words))),
    ]
    for stack in STACKS:
        layer = f"{stack}.layers.{{}}"
        for ours, theirs in pairs(_MODULES).items():
            entries.append(Entry(f"{layer}.{ours}", f"{layer}.{theirs}"))
        for (name, part), theirs in _SLICES.items():
            for kind in ("weight", "bias"):
                ours = f"{layer}.{name}.{kind}[{part}]"
                entries.append(Entry(ours, f"{layer}.{theirs}.{kind}"))
    return entries


def tied(config: Any) -> list[tuple[str, str]]:
    """Embeddings and head, as far as they are one."""
    if config.tie == "all":
        return [("shared.weight", other) for other in (_SOURCE, _TARGET, "lm_head.weight")]
    return [(_TARGET, "lm_head.weight")] if config.tie == "target" else []


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    given.expect(
        is_encoder_decoder=True,
        is_decoder=False,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        normalize_before=False,
        normalize_embedding=False,
        add_final_layer_norm=False,
        static_position_embeddings=True,
        extra_pos_embeddings=0,
        force_bos_token_to_be_generated=False,
    )
    # What they repeat, and settings of heads that a translation model lacks.
    given.ignore(["add_bias_logits", "classif_dropout", "classifier_dropout", "num_hidden_layers"])
    vocab_size = given.take("vocab_size", 58101)
    target_size = given.take("decoder_vocab_size", None) or vocab_size
    shared = given.take("share_encoder_decoder_embeddings", True)
    tied_head = given.take("tie_word_embeddings", True)
    if shared and not tied_head:
        raise given.refusal(
            "share_encoder_decoder_embeddings = True with tie_word_embeddings = False is not "
            "supported"
        )
    activation = given.translate("activation_function", ACTIVATIONS, "gelu")
    dropout = given.take("dropout", 0.1)
    attention_dropout = given.take("attention_dropout", 0.0)
    hidden_dropout = given.take("activation_dropout", 0.0)
    ours: dict[str, Any] = {
        "vocab_size": vocab_size,
        "d_model": given.take("d_model", 1024),
        "tie": "all" if shared else "target" if tied_head else "none",
        "max_positions": given.take("max_position_embeddings", 1024),
        "positions": {"kind": "sinusoidal", "layout": "halves"},
        "embedding": {"scale": given.take("scale_embedding", False), "dropout": dropout},
        "head": {"bias": True},
        "layer": {
            "dropout": dropout,
            "attention": {"dropout": attention_dropout},
            "feed_forward": {"activation": activation, "dropout": hidden_dropout},
        },
    }
    if not shared:
        ours["target_vocab_size"] = target_size
    for stack in STACKS:
        ours[stack] = {
            "num_layers": given.take(f"{stack}_layers", 12),
            "layer": {
                "attention": {"num_heads": given.take(f"{stack}_attention_heads", 16)},
                "feed_forward": {"d_ff": given.take(f"{stack}_ffn_dim", 4096)},
            },
        }
    return ours


def write(config: TransformerConfig) -> dict[str, Any]:
    """Their settings."""
    made: dict[str, Any] = {
        "architectures": ["MarianMTModel"],
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.target_vocabulary,
        "d_model": config.d_model,
        "share_encoder_decoder_embeddings": config.tie == "all",
        "tie_word_embeddings": config.tie != "none",
        "max_position_embeddings": config.max_positions,
        "scale_embedding": config.embedding.scale,
        "activation_function": inverse(ACTIVATIONS)[config.encoder.layer.feed_forward.activation],
        "dropout": config.embedding.dropout,
        "attention_dropout": config.encoder.layer.attention.dropout,
        "activation_dropout": config.encoder.layer.feed_forward.dropout,
    }
    for stack in STACKS:
        own = getattr(config, stack)
        made[f"{stack}_layers"] = own.num_layers
        made[f"{stack}_attention_heads"] = own.layer.attention.num_heads
        made[f"{stack}_ffn_dim"] = own.layer.feed_forward.d_ff
    return made


FORMAT = Format(
    model_type="marian",
    family="transformer",
    architectures={"MarianMTModel": "model."},
    read=read,
    write=write,
    table=table,
    tied=tied,
    ignored=("encoder.embed_positions.weight", "decoder.embed_positions.weight"),
)
