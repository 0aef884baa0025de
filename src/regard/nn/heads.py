"""Heads: what stands on the states and gives answers.

Shapes: states [B, T, d_model] or [R, d_model], pooled [B, d_model], logits [..., V] or [..., C],
weight [V, d_model], boxes [B, N, 4]. A kind of encoder head is called with states and pooled, and
says by ``pools`` whether it reads the latter.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard import registry
from regard.errors import RecipeError
from regard.nn import backend
from regard.nn.dropout import Dropout
from regard.nn.linear import Linear
from regard.nn.norms import NormSpec, make_norm
from regard.spec import KindSpec, Known, Positive


@dataclass(frozen=True)
class HeadSpec:
    """Settings of a language-model head.

    Attributes:
        bias: whether each token has one.
    """

    bias: bool = False


class LanguageModelHead(nn.Module):
    """Logits over the vocabulary: states · weightᵀ + bias (paper, section 3.4).

    ``weight`` may be an embedding's own matrix (tied). Its own is N(0, 1/d_model) at the start,
    as a tied one is; the bias starts at zero.
    """

    def __init__(
        self, d_model: int, vocab_size: int, *, spec: HeadSpec, tied_to: nn.Parameter | None = None
    ) -> None:
        super().__init__()
        if tied_to is None:
            self.weight = nn.Parameter(torch.empty(vocab_size, d_model))
            nn.init.normal_(self.weight, std=d_model**-0.5)
        else:
            self.weight = tied_to
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if spec.bias else None

    def forward(self, states: Tensor) -> Tensor:
        """[..., d_model] → [..., V]."""
        return backend.linear(states, self.weight, self.bias)


@dataclass(frozen=True)
class EncoderHeadSpec(KindSpec):
    """What stands on an encoder: ``"none"``, or a kind with its options."""

    group = "heads"
    kind: str = "none"


@dataclass(frozen=True)
class HeadSize:
    """What a model tells its head; ``dropout`` is that of its layers.

    Attributes:
        vocab_size: 0 where it reads no words.
        detections: how many of the last states may answer with a box.
    """

    d_model: int
    vocab_size: int
    norm: NormSpec
    dropout: float
    detections: int = 0


def make_head(
    spec: EncoderHeadSpec, size: HeadSize, *, tied_to: nn.Parameter | None = None
) -> nn.Module:
    """The head that ``spec`` asks for; ``tied_to`` is the embedding's matrix, if there is one."""
    found, options = spec.resolve()
    return cast(nn.Module, found(size, options, tied_to))


class Pooler(nn.Module):
    """tanh(x W + b) of a text's first state (Devlin et al., 2019, appendix A)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = Linear(d_model, d_model)

    def forward(self, first: Tensor) -> Tensor:
        """[B, d_model] → [B, d_model]."""
        return torch.tanh(self.linear(first))


class NoHead(nn.Module):
    """The states themselves."""

    pools = False

    def __init__(self, size: HeadSize, options: None, tied_to: nn.Parameter | None) -> None:
        super().__init__()

    def forward(self, states: Tensor, pooled: Tensor | None) -> Tensor:
        """[B, T, d_model] as it is."""
        return states


class PooledHead(nn.Module):
    """The states and the summary, as a body alone has them."""

    pools = True

    def __init__(self, size: HeadSize, options: None, tied_to: nn.Parameter | None) -> None:
        super().__init__()

    def forward(self, states: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, d_model] and [B, d_model] as they are."""
        return states, pooled


@dataclass(frozen=True)
class MaskedHeadOptions:
    """Settings of a masked-language-model head.

    Attributes:
        activation: of its hidden layer.
        next_sentence: whether it also says if one segment follows the other.
    """

    activation: Annotated[str, Known("activations")] = "gelu"
    next_sentence: bool = False


class MaskedLanguageModelHead(nn.Module):
    """Logits of the word at each place: a hidden layer, a norm, the embedding's matrix and a bias.

    (Devlin et al., 2019; its reference code.) With ``next_sentence``, called with a summary it has
    two logits: 0 = the second segment follows the first, 1 = it does not.
    """

    Options = MaskedHeadOptions

    def __init__(
        self, size: HeadSize, options: MaskedHeadOptions, tied_to: nn.Parameter | None
    ) -> None:
        super().__init__()
        if tied_to is None:
            raise RecipeError("this family reads no words to guess", where="model.head")
        self.hidden = Linear(size.d_model, size.d_model)
        self.activation = registry.kind("activations", options.activation)
        self.norm = make_norm(size.norm, size.d_model)
        self.weight = tied_to
        self.bias = nn.Parameter(torch.zeros(size.vocab_size))
        self.pools = options.next_sentence
        self.next_sentence = Linear(size.d_model, 2) if options.next_sentence else None

    def transform(self, states: Tensor) -> Tensor:
        """What ``weight`` and ``bias`` make logits of: [..., d_model] → the same."""
        return cast(Tensor, self.norm(self.activation(self.hidden(states))))

    def forward(self, states: Tensor, pooled: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        """[B, T, d_model] → [B, T, V]; with ``next_sentence`` [B, 2] beside it."""
        logits = backend.linear(self.transform(states), self.weight, self.bias)
        return logits if self.next_sentence is None else (logits, self.next_sentence(pooled))


@dataclass(frozen=True)
class ClassesOptions:
    """Settings of a head that chooses.

    Attributes:
        num_classes: what it chooses between; the data say it.
    """

    num_classes: Positive = 2


class ClassificationHead(nn.Module):
    """Logits of a text's classes, from its summary."""

    Options = ClassesOptions
    pools = True

    def __init__(
        self, size: HeadSize, options: ClassesOptions, tied_to: nn.Parameter | None
    ) -> None:
        super().__init__()
        self.dropout = Dropout(size.dropout)
        self.linear = Linear(size.d_model, options.num_classes)

    def forward(self, states: Tensor, pooled: Tensor) -> Tensor:
        """[B, d_model] → [B, C]."""
        return cast(Tensor, self.linear(self.dropout(pooled)))


class TokenHead(nn.Module):
    """Logits of each token's classes."""

    Options = ClassesOptions
    pools = False

    def __init__(
        self, size: HeadSize, options: ClassesOptions, tied_to: nn.Parameter | None
    ) -> None:
        super().__init__()
        self.dropout = Dropout(size.dropout)
        self.linear = Linear(size.d_model, options.num_classes)

    def forward(self, states: Tensor, pooled: Tensor | None) -> Tensor:
        """[B, T, d_model] → [B, T, C]."""
        return cast(Tensor, self.linear(self.dropout(states)))


class SpanHead(nn.Module):
    """Logits of a span's first and last token (Devlin et al., 2019, section 4.2)."""

    pools = False

    def __init__(self, size: HeadSize, options: None, tied_to: nn.Parameter | None) -> None:
        super().__init__()
        self.linear = Linear(size.d_model, 2)

    def forward(self, states: Tensor, pooled: Tensor | None) -> Tensor:
        """[B, T, d_model] → [B, T, 2]."""
        return cast(Tensor, self.linear(states))


class BoxesHead(nn.Module):
    """Each detection token's class and box (Fang et al., 2021, section 2; its reference code).

    Two networks of three linear maps with ReLU between them. The class after the last is "no
    object". A box is the place of its center, width and height, as shares of the picture's.
    """

    Options = ClassesOptions
    pools = False

    def __init__(
        self, size: HeadSize, options: ClassesOptions, tied_to: nn.Parameter | None
    ) -> None:
        super().__init__()
        if not size.detections:
            raise RecipeError(
                "boxes are what detection tokens answer, and there are none",
                where="model.head",
                hint="give a ViT model.detections = 100",
            )
        self.detections = size.detections

        def network(outputs: int) -> nn.ModuleList:
            widths = [size.d_model] * 3 + [outputs]
            return nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(widths))

        self.classes = network(options.num_classes + 1)
        self.boxes = network(4)

    def forward(self, states: Tensor, pooled: Tensor | None) -> tuple[Tensor, Tensor]:
        """[B, T, d_model] → logits [B, N, C + 1] and boxes [B, N, 4]."""
        own = states[:, -self.detections :]  # [B, N, d_model]
        return _through(self.classes, own), _through(self.boxes, own).sigmoid()


def _through(network: nn.ModuleList, states: Tensor) -> Tensor:
    for linear in network[:-1]:
        states = F.relu(linear(states))
    return cast(Tensor, network[-1](states))
