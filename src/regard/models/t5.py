"""T5 (Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", 2020, section 2.1), and T5 v1.1.

Shapes: source ids [B, S], target ids [B, T], states [B, S or T, d_model], logits [B, T, V].

The original Transformer with scale-only norms before the sublayers, no biases, one embedding for
both sides, and a bias on the scores by bucketed distance in place of positions: both ways in the
encoder, behind in the decoder, none in cross-attention. Scores are not scaled: the queries begin
smaller instead. v1.0 has ReLU, and its head is the embedding under states times d_model^-½; v1.1 a
gated GELU and a head of its own (Shazeer, 2020; google-research/text-to-text-transfer-transformer,
released_checkpoints.md). What differs: the reference code also drops states after the stacks' last
norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from regard.nn.attention import Attention
from regard.nn.body import Body
from regard.nn.cache import DecodingState
from regard.nn.embeddings import EmbeddingSpec, TokenEmbedding
from regard.nn.heads import HeadSpec, LanguageModelHead
from regard.nn.linear import Linear, SplitLinear
from regard.nn.masks import Causal, Rule, as_rule, keys_only
from regard.nn.stack import Memory, Stack, StackSpec
from regard.nn.steps import start, step
from regard.registry import Family
from regard.spec import Positive, build, from_preset, spread

STACKS = ("encoder", "decoder")

DEFAULTS: dict[str, Any] = {
    "embedding": {"scale": False},
    "encoder": {"positions": {"kind": "buckets"}},
    "decoder": {"positions": {"kind": "buckets", "bidirectional": False}},
    "layer": {
        "norm_placement": "pre",
        "norm": {"kind": "rmsnorm", "eps": 1e-6},
        "attention": {"scale": 1.0, "bias": False, "dropout": 0.1},
        "feed_forward": {"dropout": 0.1, "bias": False},
    },
}


def _size(layers: int, heads: int, width: int, d_ff: int) -> dict[str, Any]:
    layer = {"attention": {"num_heads": heads, "d_key": 64, "d_value": 64}}
    return {
        "d_model": width,
        "num_layers": layers,
        "layer": {**layer, "feed_forward": {"d_ff": d_ff}},
    }


def _later(layers: int, heads: int, width: int, d_ff: int) -> dict[str, Any]:
    """v1.1's: it was pre-trained without dropout, which fine-tuning turns on again."""
    sizes = _size(layers, heads, width, d_ff)
    sizes["layer"]["feed_forward"] |= {"kind": "gated", "activation": "gelu_tanh"}
    return {**sizes, "tie": "none", "scale_states": False}


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "d_model": 128,
        "num_layers": 4,
        "layer": {"attention": {"num_heads": 4}, "feed_forward": {"d_ff": 256}},
    },
    "small": _size(6, 8, 512, 2048),
    "base": _size(12, 12, 768, 3072),
    "large": _size(24, 16, 1024, 4096),
    "v1_1-small": _later(8, 6, 512, 1024),
    "v1_1-base": _later(12, 12, 768, 2048),
    "v1_1-large": _later(24, 16, 1024, 2816),
}


@dataclass(frozen=True)
class T5Config:
    """Settings of a T5, in the recipe's words.

    Attributes:
        vocab_size: entries of the vocabulary of both sides.
        d_model: width of the states.
        tie: whether the head is the embedding, which both sides share: ``all`` or ``none``.
        scale_states: whether the head reads states times d_model^-½.
        max_positions: tokens of the longest text, its end included. Nothing in the model depends on
            it: 512 is what T5 was trained on.
        embedding, head, encoder, decoder: settings of the parts.
    """

    vocab_size: Positive
    d_model: Positive = 512
    tie: Literal["all", "none"] = "all"
    scale_states: bool = True
    max_positions: Positive = 512
    embedding: EmbeddingSpec = EmbeddingSpec(scale=False)
    head: HeadSpec = HeadSpec()
    encoder: StackSpec = build(StackSpec, spread(DEFAULTS, STACKS)["encoder"])
    decoder: StackSpec = build(StackSpec, spread(DEFAULTS, STACKS)["decoder"])

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    @classmethod
    def preset(
        cls, name: str, *, vocab_size: int, overrides: Mapping[str, Any] | None = None
    ) -> Self:
        """A published size, with overrides such as ``{"layer.dropout": 0.0}``."""
        own = {"vocab_size": vocab_size, **(overrides or {})}
        return from_preset(cls, name, own, DEFAULTS, stacks=STACKS)


class T5(nn.Module):
    """Source ids and target ids in, logits of the next target token out."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        stack = partial(
            Stack,
            d_model=width,
            max_positions=config.max_positions,
            input_dropout=config.embedding.dropout,
        )
        self.embedding = TokenEmbedding(config.vocab_size, width, scale=config.embedding.scale)
        self.encoder = stack(config.encoder)
        self.decoder = stack(config.decoder, mask=Causal(), d_memory=width)
        tied_to = self.embedding.weight if config.tie == "all" else None
        self.head = LanguageModelHead(width, config.vocab_size, spec=config.head, tied_to=tied_to)
        _init(self)

    def forward(
        self,
        source_ids: Tensor,
        target_ids: Tensor,
        *,
        source_mask: Tensor | Rule | None = None,
        target_mask: Tensor | Rule | None = None,
    ) -> Tensor:
        """Logits of the token after each target position (teacher forcing).

        Args:
            source_ids: [B, S].
            target_ids: [B, T], the decoder's inputs, its start token first.
            source_mask: bool [B, S], True = real, or a rule.
            target_mask: bool [B, T], or a rule; causality comes with the decoder.

        Returns:
            [B, T, V].
        """
        states = self.features(
            source_ids, target_ids, source_mask=source_mask, target_mask=target_mask
        )
        return cast(Tensor, self.head(states))

    def features(
        self,
        source_ids: Tensor,
        target_ids: Tensor,
        *,
        source_mask: Tensor | Rule | None = None,
        target_mask: Tensor | Rule | None = None,
    ) -> Tensor:
        """The decoder's states [B, T, d_model] as the head reads them."""
        memory = self.encode(source_ids, source_mask=source_mask)
        embedded = self.embedding(target_ids)  # [B, T, d_model]
        states: Tensor = self.decoder(embedded, mask=as_rule(target_mask), memory=memory)
        return states if self._factor == 1.0 else states * self._factor

    @property
    def body(self) -> Body:
        """The model without its head: called as the model is, it gives `features`."""
        return Body(self)

    def encode(self, source_ids: Tensor, *, source_mask: Tensor | Rule | None = None) -> Memory:
        """What cross-attention reads: states [B, S, d_model] and where they are real."""
        mask = as_rule(source_mask)
        embedded = self.embedding(source_ids)  # [B, S, d_model]
        return Memory(self.encoder(embedded, mask=mask), keys_only(mask))

    def start(
        self,
        source_ids: Tensor,
        *,
        source_mask: Tensor | None = None,
        width: int = 1,
        cache: str = "shared",
    ) -> DecodingState:
        """Read the source [B, S]; the state decodes ``width`` hypotheses of each sentence."""
        memory = self.encode(source_ids, source_mask=source_mask)
        return start(self.decoder, len(source_ids), width=width, cache=cache, memory=memory)

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Logits [R, V] after tokens [R, n], R = sentences * width; the state goes on by n."""
        factor = self._factor
        return step(self.decoder, self.embedding, self.head, tokens, state, factor=factor)

    @property
    def _factor(self) -> float:
        """Of the states that the head reads."""
        return self.config.d_model**-0.5 if self.config.scale_states else 1.0


@torch.no_grad()
def _init(model: T5) -> None:
    """As T5's code (mesh_tensorflow): every map N(0, 1/inputs), every product of variance 1.

    Queries are smaller by √d_key where scores are not scaled. The embedding is N(0, 1), or smaller
    by √d_model where it is also a head that reads states as they are.
    """
    for module in model.modules():
        if isinstance(module, Linear | SplitLinear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for module in model.modules():
        if isinstance(module, Attention):
            own = hasattr(module, "qkv")
            queries = module.qkv.slice("queries")[0] if own else module.query.weight
            queries *= module.d_key**-0.5 / module.scale
    config = model.config
    direct = config.tie == "all" and not config.scale_states
    nn.init.normal_(model.embedding.weight, std=config.d_model**-0.5 if direct else 1.0)


def _tiny() -> T5Config:
    sizes = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 32, "max_positions": 64}
    return T5Config.preset("tiny", vocab_size=23, overrides=sizes)


def _example(config: T5Config, batch: int, length: int) -> dict[str, Any]:
    real = torch.ones(batch, length + 1, dtype=torch.bool)
    real[batch // 2 :, -2:] = False
    return {
        "source_ids": torch.randint(config.vocab_size, (batch, length + 1)),
        "target_ids": torch.randint(config.vocab_size, (batch, length)),
        "source_mask": real,
    }


FAMILY = Family(
    name="t5",
    config=T5Config,
    model=T5,
    presets=PRESETS,
    defaults=DEFAULTS,
    shape="encoder-decoder",
    stacks=STACKS,
    tiny=_tiny,
    example=_example,
    can=frozenset({"cache", "causal"}),
)
