"""GPT (Radford et al., 2018 and 2019; Brown et al., 2020), and Llama-style decoders.

Shapes: ids [B, T], states [B, T, d_model], logits [B, T, V].

One stack of self-attention and feed-forward layers under a causal mask predicts the next token: the
original Transformer's decoder without its cross-attention. GPT-2 puts norms before the sublayers
and learns its positions; GPT-1 is post-norm, as the original. Llama (Touvron et al., 2023) is the
same wiring with other kinds of parts: rotary positions, RMSNorm, gated feed-forward, fewer heads
for keys and values, no biases, a head of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from regard.nn.body import Body
from regard.nn.cache import DecodingState
from regard.nn.embeddings import EmbeddingSpec, TokenEmbedding
from regard.nn.heads import HeadSpec, LanguageModelHead
from regard.nn.init import init_normal
from regard.nn.masks import Causal, Rule, as_rule
from regard.nn.positions.scheme import PositionSpec
from regard.nn.stack import LayerSpec, Stack, StackSpec
from regard.nn.steps import start, step
from regard.registry import Family
from regard.spec import Positive, build, from_preset

INIT_STD = 0.02
"""Of all matrices at the start; those that end a sublayer have it over √(2 · num_layers)."""

DEFAULTS: dict[str, Any] = {
    "positions": "learned",
    "embedding": {"scale": False},
    "layer": {"norm_placement": "pre", "feed_forward": {"activation": "gelu_tanh"}},
}


def _gpt(layers: int, heads: int, width: int, context: int, **more: Any) -> dict[str, Any]:
    layer = {
        "dropout": 0.1,
        "attention": {"num_heads": heads, "dropout": 0.1},
        "feed_forward": {"d_ff": 4 * width},
    }
    sizes = {"d_model": width, "num_layers": layers, "max_positions": context, "layer": layer}
    return {**sizes, **more}


def _nano(layers: int, heads: int, width: int, context: int, dropout: float) -> dict[str, Any]:
    """nanoGPT's: no biases anywhere, GELU by the error function."""
    return {
        "d_model": width,
        "num_layers": layers,
        "max_positions": context,
        "embedding": {"dropout": dropout},
        "layer": {
            "dropout": dropout,
            "norm": {"bias": False},
            "attention": {"num_heads": heads, "bias": False, "dropout": dropout},
            "feed_forward": {"d_ff": 4 * width, "activation": "gelu", "bias": False},
        },
    }


def _llama(
    layers: int, heads: tuple[int, int], width: int, d_ff: int, context: int, **more: Any
) -> dict[str, Any]:
    return {
        "d_model": width,
        "num_layers": layers,
        "max_positions": context,
        "tie": "none",
        "positions": {"kind": "rotary"},
        "embedding": {"dropout": 0.0},
        "layer": {
            "dropout": 0.0,
            "norm": {"kind": "rmsnorm", "eps": 1e-5},
            "attention": {"num_heads": heads[0], "num_kv_heads": heads[1], "bias": False},
            "feed_forward": {"kind": "gated", "d_ff": d_ff, "activation": "silu", "bias": False},
        },
        **more,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "gpt1": _gpt(12, 12, 768, 512),
    "gpt2": _gpt(12, 12, 768, 1024),
    "gpt2-medium": _gpt(24, 16, 1024, 1024),
    "gpt2-large": _gpt(36, 20, 1280, 1024),
    "gpt2-xl": _gpt(48, 25, 1600, 1024),
    "gpt3": _gpt(96, 96, 12288, 2048),
    "nano": _nano(6, 6, 384, 256, 0.2),
    "nano-cpu": _nano(4, 4, 128, 64, 0.0),
    "stories260k": _llama(5, (8, 4), 64, 172, 512, tie="all"),
    "stories15m": _llama(6, (6, 6), 288, 768, 256, tie="all"),
    "llama2-7b": _llama(32, (32, 32), 4096, 11008, 4096),
    "llama3-8b": _llama(
        32, (32, 8), 4096, 14336, 8192, positions={"kind": "rotary", "base": 500_000.0}
    ),
}
PRESETS["gpt1"]["layer"]["norm_placement"] = "post"


@dataclass(frozen=True)
class GPTConfig:
    """Settings of a GPT, in the recipe's words.

    Attributes:
        vocab_size: entries of the vocabulary.
        d_model: width of the states.
        num_layers: layers of the one stack.
        tie: whether embedding and head are one matrix: ``all`` or ``none``.
        max_positions: tokens of the longest text.
        positions: the scheme of the stack.
        embedding, head, layer: settings of the parts.
    """

    vocab_size: Positive
    d_model: Positive = 768
    num_layers: Positive = 12
    tie: Literal["all", "none"] = "all"
    max_positions: Positive = 1024
    positions: PositionSpec = PositionSpec("learned")
    embedding: EmbeddingSpec = EmbeddingSpec(scale=False)
    head: HeadSpec = HeadSpec()
    layer: LayerSpec = build(LayerSpec, DEFAULTS["layer"])

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    @classmethod
    def preset(
        cls, name: str, *, vocab_size: int, overrides: Mapping[str, Any] | None = None
    ) -> Self:
        """A published size, with overrides such as ``{"layer.dropout": 0.0}``."""
        return from_preset(cls, name, {"vocab_size": vocab_size, **(overrides or {})}, DEFAULTS)


class GPT(nn.Module):
    """Ids in, logits of the next token out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(
            config.vocab_size, config.d_model, scale=config.embedding.scale
        )
        self.decoder = Stack(
            StackSpec(config.num_layers, config.positions, config.layer),
            config.d_model,
            max_positions=config.max_positions,
            input_dropout=config.embedding.dropout,
            mask=Causal(),
        )
        self.head = LanguageModelHead(
            config.d_model,
            config.vocab_size,
            spec=config.head,
            tied_to=self.embedding.weight if config.tie == "all" else None,
        )
        init_normal(self, INIT_STD, num_layers=config.num_layers)

    def forward(
        self, ids: Tensor, *, mask: Tensor | Rule | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Logits of the token after each.

        Args:
            ids: [B, T].
            mask: bool [B, T], True = real, or a rule; causality comes with the stack.
            positions: [B or 1, T]; by default 0, 1, 2 …

        Returns:
            [B, T, V].
        """
        return cast(Tensor, self.head(self.features(ids, mask=mask, positions=positions)))

    def features(
        self, ids: Tensor, *, mask: Tensor | Rule | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """The states [B, T, d_model], before the head."""
        embedded = self.embedding(ids)  # [B, T, d_model]
        return cast(Tensor, self.decoder(embedded, mask=as_rule(mask), positions=positions))

    @property
    def body(self) -> Body:
        """The model without its head: called as the model is, it gives `features`."""
        return Body(self)

    def start(self, sentences: int, *, width: int = 1, cache: str = "shared") -> DecodingState:
        """A state that holds nothing yet, of ``width`` hypotheses of each sentence."""
        return start(self.decoder, sentences, width=width, cache=cache)

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Logits [R, V] after tokens [R, n], R = sentences * width; the state goes on by n."""
        return step(self.decoder, self.embedding, self.head, tokens, state)


def _tiny() -> GPTConfig:
    sizes = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, "max_positions": 64}
    return GPTConfig.preset("nano-cpu", vocab_size=23, overrides=sizes)


def _example(config: GPTConfig, batch: int, length: int) -> dict[str, Any]:
    real = torch.ones(batch, length, dtype=torch.bool)
    real[batch // 2 :, -2:] = False
    return {"ids": torch.randint(config.vocab_size, (batch, length)), "mask": real}


FAMILY = Family(
    name="gpt",
    config=GPTConfig,
    model=GPT,
    presets=PRESETS,
    defaults=DEFAULTS,
    shape="decoder",
    tiny=_tiny,
    example=_example,
    can=frozenset({"cache", "causal"}),
)
