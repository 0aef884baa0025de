"""BERT (Devlin et al., 2019), and its kin RoBERTa and DistilBERT.

Shapes: ids and segments [B, T], states [B, T, d_model], pooled [B, d_model].

One stack of self-attention and feed-forward layers that sees a text on both sides: the original
Transformer's encoder with learned positions, segments, GELU and a norm on the embeddings. What it
answers is its head's matter: the words behind masks, a class, a label for each token, a span.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from regard.nn.body import Body
from regard.nn.embeddings import EmbeddingSpec, TokenEmbedding
from regard.nn.heads import EncoderHeadSpec, HeadSize, Pooler, make_head
from regard.nn.init import init_normal
from regard.nn.masks import Padding, Rule, as_rule
from regard.nn.positions.scheme import PositionSpec
from regard.nn.stack import LayerSpec, Stack, StackSpec
from regard.registry import Family
from regard.spec import Positive, build, from_preset

INIT_STD = 0.02

DEFAULTS: dict[str, Any] = {
    "positions": "learned",
    "embedding": {"scale": False},
    "layer": {
        "norm": {"eps": 1e-12},
        "attention": {"dropout": 0.1},
        "feed_forward": {"activation": "gelu"},
    },
}


def _bert(layers: int, heads: int, width: int, **more: Any) -> dict[str, Any]:
    layer = {"attention": {"num_heads": heads}, "feed_forward": {"d_ff": 4 * width}}
    return {"d_model": width, "num_layers": layers, "layer": layer, **more}


_OFFSET = {"kind": "learned", "offset": 2}
"""RoBERTa's tables begin with two rows that no token of a text gets."""

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _bert(2, 2, 128),
    "mini": _bert(4, 4, 256),
    "small": _bert(4, 8, 512),
    "medium": _bert(8, 8, 512),
    "base": _bert(12, 12, 768),
    "large": _bert(24, 16, 1024),
    "roberta-base": _bert(12, 12, 768, num_segments=1, positions=_OFFSET),
    "roberta-large": _bert(24, 16, 1024, num_segments=1, positions=_OFFSET),
    "distilbert": _bert(6, 12, 768, num_segments=0, pooler=False),
}
for _name in ("roberta-base", "roberta-large"):
    PRESETS[_name]["layer"]["norm"] = {"eps": 1e-5}


@dataclass(frozen=True)
class BERTConfig:
    """Settings of a BERT, in the recipe's words.

    Attributes:
        vocab_size: entries of the vocabulary.
        d_model: width of the states.
        num_layers: layers of the one stack.
        num_segments: kinds of segments told apart; 0 = none.
        pooler: whether a text's first state is made into a summary of it, for heads that read one.
        max_positions: tokens of the longest text, special ones included.
        positions: the scheme of the stack.
        embedding, layer: settings of the parts.
        head: what is answered, by ``kind``; ``none`` gives the states.
    """

    vocab_size: Positive
    d_model: Positive = 768
    num_layers: Positive = 12
    num_segments: int = 2
    pooler: bool = True
    max_positions: Positive = 512
    positions: PositionSpec = PositionSpec("learned")
    embedding: EmbeddingSpec = EmbeddingSpec(scale=False)
    layer: LayerSpec = build(LayerSpec, DEFAULTS["layer"])
    head: EncoderHeadSpec = EncoderHeadSpec()

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    @classmethod
    def preset(
        cls, name: str, *, vocab_size: int, overrides: Mapping[str, Any] | None = None
    ) -> Self:
        """A published size, with overrides such as ``{"head": "masked_lm"}``."""
        return from_preset(cls, name, {"vocab_size": vocab_size, **(overrides or {})}, DEFAULTS)


class BERT(nn.Module):
    """Ids in; its head's answer, or the states, out."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        scale = config.embedding.scale
        self.embedding = TokenEmbedding(config.vocab_size, width, scale=scale)
        self.segment_embedding = (
            TokenEmbedding(config.num_segments, width, scale=False) if config.num_segments else None
        )
        self.encoder = Stack(
            StackSpec(config.num_layers, config.positions, config.layer),
            width,
            max_positions=config.max_positions,
            input_dropout=config.embedding.dropout,
            input_norm=config.layer.norm,
        )
        size = HeadSize(width, config.vocab_size, config.layer.norm, config.layer.dropout)
        head = make_head(config.head, size, tied_to=self.embedding.weight)
        self.pooler = Pooler(width) if config.pooler and head.pools else None
        self.head = head
        init_normal(self, INIT_STD)

    def forward(
        self,
        ids: Tensor,
        *,
        mask: Tensor | Rule | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Any:
        """The head's answer.

        Args:
            ids: [B, T].
            mask: bool [B, T], True = real, or a rule.
            segments: [B, T]; 0 by default.
            positions: [B or 1, T]; by default 0, 1, 2 …

        Returns:
            as the head says; states [B, T, d_model] without one.
        """
        states = self.features(ids, mask=mask, segments=segments, positions=positions)
        return self.head(states, self.pool(states, mask) if self.head.pools else None)

    def features(
        self,
        ids: Tensor,
        *,
        mask: Tensor | Rule | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """The states [B, T, d_model], before the head."""
        embedded = self.embedding(ids)  # [B, T, d_model]
        if self.segment_embedding is not None:
            segments = torch.zeros_like(ids) if segments is None else segments
            embedded = embedded + self.segment_embedding(segments)
        return cast(Tensor, self.encoder(embedded, mask=as_rule(mask), positions=positions))

    def pool(self, states: Tensor, mask: Tensor | Rule | None = None) -> Tensor:
        """A summary of each text, [B, d_model], from the state of its first real token."""
        rule = as_rule(mask)
        if isinstance(rule, Padding):
            first = states[
                torch.arange(len(states), device=states.device), rule.real.int().argmax(1)
            ]
        else:
            first = states[:, 0]
        return first if self.pooler is None else cast(Tensor, self.pooler(first))

    @property
    def body(self) -> Body:
        """The model without its head: called as the model is, it gives `features`."""
        return Body(self)


def _tiny() -> BERTConfig:
    sizes = {"d_model": 16, "layer.feed_forward.d_ff": 24, "max_positions": 64}
    heads = {"layer.attention.num_heads": 4}
    return BERTConfig.preset("tiny", vocab_size=23, overrides={**sizes, **heads})


def _example(config: BERTConfig, batch: int, length: int) -> dict[str, Any]:
    real = torch.ones(batch, length, dtype=torch.bool)
    real[batch // 2 :, -2:] = False
    return {"ids": torch.randint(config.vocab_size, (batch, length)), "mask": real}


FAMILY = Family(
    name="bert",
    config=BERTConfig,
    model=BERT,
    presets=PRESETS,
    defaults=DEFAULTS,
    shape="encoder",
    tiny=_tiny,
    example=_example,
)
