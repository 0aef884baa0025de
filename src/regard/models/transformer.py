"""The Transformer (Vaswani et al., "Attention Is All You Need", 2017; figure 1).

Shapes: source ids [B, S], target ids [B, T], states [B, S or T, d_model], logits [B, T, V].

An encoder of self-attention and feed-forward layers, a decoder that also attends to the encoder's
states, sinusoidal positions, embeddings scaled by √d_model and, by default, one matrix for source
embedding, target embedding and head (section 3.4). What differs from the paper's text: attention
projections and feed-forward have biases (as in most implementations; its table 3 fits with them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from regard.errors import RecipeError
from regard.nn.body import Body
from regard.nn.cache import DecodingState
from regard.nn.embeddings import EmbeddingSpec, TokenEmbedding
from regard.nn.heads import HeadSpec, LanguageModelHead
from regard.nn.masks import Causal, Rule, as_rule, keys_only
from regard.nn.stack import Memory, Stack, StackSpec
from regard.nn.steps import start, step
from regard.registry import Family
from regard.spec import Positive, from_preset

STACKS = ("encoder", "decoder")

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "d_model": 128,
        "num_layers": 4,
        "layer": {"attention": {"num_heads": 4}, "feed_forward": {"d_ff": 256}},
    },
    "base": {
        "d_model": 512,
        "num_layers": 6,
        "layer": {"attention": {"num_heads": 8}, "feed_forward": {"d_ff": 2048}},
    },
    "big": {
        "d_model": 1024,
        "num_layers": 6,
        "layer": {
            "dropout": 0.3,
            "attention": {"num_heads": 16},
            "feed_forward": {"d_ff": 4096},
        },
        "embedding": {"dropout": 0.3},
    },
}


@dataclass(frozen=True)
class TransformerConfig:
    """Settings of a Transformer, in the recipe's words.

    Attributes:
        vocab_size: entries of the source vocabulary, and of the target's where that is None.
        target_vocab_size: entries of the target vocabulary when it is another one.
        d_model: width of the states.
        tie: which matrices are one: ``all`` three (source, target, head; paper, section 3.4),
            ``target`` (target and head) or ``none``.
        max_positions: tokens of the longest text, its end included.
        embedding, head, encoder, decoder: settings of the parts.
    """

    vocab_size: Positive
    target_vocab_size: Positive | None = None
    d_model: Positive = 512
    tie: Literal["all", "target", "none"] = "all"
    max_positions: Positive = 1024
    embedding: EmbeddingSpec = EmbeddingSpec()
    head: HeadSpec = HeadSpec()
    encoder: StackSpec = StackSpec()
    decoder: StackSpec = StackSpec()

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __post_init__(self) -> None:
        # Of one size or not: two vocabularies number their tokens differently.
        if self.tie == "all" and self.target_vocab_size is not None:
            raise RecipeError(
                "two vocabularies cannot share one embedding",
                where="model.tie",
                hint='set model.tie = "target", or use one joint vocabulary',
            )

    @classmethod
    def preset(
        cls, name: str, *, vocab_size: int, overrides: Mapping[str, Any] | None = None
    ) -> Self:
        """A published size, with overrides such as ``{"layer.attention.num_heads": 16}``."""
        own = {"vocab_size": vocab_size, **(overrides or {})}
        return from_preset(cls, name, own, stacks=STACKS)

    @property
    def target_vocabulary(self) -> int:
        """Entries of the target vocabulary."""
        return self.target_vocab_size or self.vocab_size


class Transformer(nn.Module):
    """Source ids and target ids in, logits of the next target token out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, scale = config.d_model, config.embedding.scale
        stack = partial(
            Stack,
            d_model=width,
            max_positions=config.max_positions,
            input_dropout=config.embedding.dropout,
        )
        self.source_embedding = TokenEmbedding(config.vocab_size, width, scale=scale)
        self.target_embedding = (
            self.source_embedding
            if config.tie == "all"
            else TokenEmbedding(config.target_vocabulary, width, scale=scale)
        )
        self.encoder = stack(config.encoder)
        self.decoder = stack(config.decoder, mask=Causal(), d_memory=width)
        tied_to = None if config.tie == "none" else self.target_embedding.weight
        self.head = LanguageModelHead(
            width, config.target_vocabulary, spec=config.head, tied_to=tied_to
        )

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
        """The decoder's states [B, T, d_model], before the head."""
        memory = self.encode(source_ids, source_mask=source_mask)
        embedded = self.target_embedding(target_ids)  # [B, T, d_model]
        return cast(Tensor, self.decoder(embedded, mask=as_rule(target_mask), memory=memory))

    @property
    def body(self) -> Body:
        """The model without its head: called as the model is, it gives `features`."""
        return Body(self)

    def encode(self, source_ids: Tensor, *, source_mask: Tensor | Rule | None = None) -> Memory:
        """What cross-attention reads: states [B, S, d_model] and where they are real."""
        mask = as_rule(source_mask)
        embedded = self.source_embedding(source_ids)  # [B, S, d_model]
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
        return step(self.decoder, self.target_embedding, self.head, tokens, state)


def _tiny() -> TransformerConfig:
    overrides = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, "max_positions": 64}
    return TransformerConfig.preset("tiny", vocab_size=23, overrides=overrides)


def _example(config: TransformerConfig, batch: int, length: int) -> dict[str, Any]:
    real = torch.ones(batch, length + 1, dtype=torch.bool)
    real[batch // 2 :, -2:] = False
    return {
        "source_ids": torch.randint(config.vocab_size, (batch, length + 1)),
        "target_ids": torch.randint(config.target_vocabulary, (batch, length)),
        "source_mask": real,
    }


FAMILY = Family(
    name="transformer",
    config=TransformerConfig,
    model=Transformer,
    presets=PRESETS,
    shape="encoder-decoder",
    stacks=STACKS,
    tiny=_tiny,
    example=_example,
    can=frozenset({"cache", "causal"}),
)
