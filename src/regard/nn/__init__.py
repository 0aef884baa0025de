"""Parts: tensors in, tensors out; each usable alone."""

from regard.nn.adapters import LoRA, LoRAOptions, add_adapters, merge_adapters
from regard.nn.attention import Attention, AttentionContext, AttentionSpec, PatternSpec
from regard.nn.cache import CACHES, Cache, CopyCache, DecodingState, SharedCache
from regard.nn.dropout import Dropout
from regard.nn.embeddings import EmbeddingSpec, TokenEmbedding
from regard.nn.feedforward import FeedForward, FeedForwardSpec, GatedFeedForward
from regard.nn.heads import HeadSpec, LanguageModelHead
from regard.nn.linear import Linear, SplitLinear
from regard.nn.masks import (
    Causal,
    Documents,
    Explicit,
    Full,
    MaskForm,
    Padding,
    Prefix,
    Rule,
    as_rule,
    prepare,
)
from regard.nn.norms import LayerNorm, NormSpec, RMSNorm, make_norm
from regard.nn.positions import (
    Alibi,
    Buckets,
    Learned,
    NoPositions,
    PositionScheme,
    PositionSpec,
    Rotary,
    Shaw,
    Sinusoidal,
    sinusoids,
)
from regard.nn.residual import Residual
from regard.nn.stack import Layer, LayerSpec, Memory, Stack, StackSpec

__all__ = [
    "CACHES",
    "Alibi",
    "Attention",
    "AttentionContext",
    "AttentionSpec",
    "Buckets",
    "Cache",
    "Causal",
    "CopyCache",
    "DecodingState",
    "Documents",
    "Dropout",
    "EmbeddingSpec",
    "Explicit",
    "FeedForward",
    "FeedForwardSpec",
    "Full",
    "GatedFeedForward",
    "HeadSpec",
    "LanguageModelHead",
    "Layer",
    "LayerNorm",
    "LayerSpec",
    "Learned",
    "Linear",
    "LoRA",
    "LoRAOptions",
    "MaskForm",
    "Memory",
    "NoPositions",
    "NormSpec",
    "Padding",
    "PatternSpec",
    "PositionScheme",
    "PositionSpec",
    "Prefix",
    "RMSNorm",
    "Residual",
    "Rotary",
    "Rule",
    "SharedCache",
    "Shaw",
    "Sinusoidal",
    "SplitLinear",
    "Stack",
    "StackSpec",
    "TokenEmbedding",
    "add_adapters",
    "as_rule",
    "make_norm",
    "merge_adapters",
    "prepare",
    "sinusoids",
]
