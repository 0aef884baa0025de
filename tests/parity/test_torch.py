"""The stacks beside torch's own layers, with the same weights: states and gradients agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from regard import registry
from regard.models import Transformer, TransformerConfig
from regard.nn import kernels
from regard.nn.masks import Full, Padding
from regard.nn.stack import Memory

WIDTH, HEADS, HIDDEN, LAYERS = 16, 4, 24, 3

Pair = tuple[Tensor, Tensor, slice]
"""Our parameter, torch's, and which rows of torch's are meant."""


class Theirs(nn.Module):
    """torch's encoder and decoder, built as its documentation says."""

    def __init__(self, placement: str, activation: str) -> None:
        super().__init__()
        pre = placement == "pre"
        settings = (WIDTH, HEADS, HIDDEN, 0.0, activation)
        options = {"norm_first": pre, "batch_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(*settings, **options),
            LAYERS,
            norm=nn.LayerNorm(WIDTH) if pre else None,
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(*settings, **options),
            LAYERS,
            norm=nn.LayerNorm(WIDTH) if pre else None,
        )

    def forward(self, source: Tensor, target: Tensor, real: Tensor) -> Tensor:
        memory = self.encoder(source, src_key_padding_mask=~real)
        length = target.shape[1]
        return self.decoder(
            target,
            memory,
            tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            memory_key_padding_mask=~real,
        )


def of_module(ours: nn.Module, theirs: nn.Module) -> Iterator[Pair]:
    for kind in ("weight", "bias"):
        yield getattr(ours, kind), getattr(theirs, kind), slice(None)


def of_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> Iterator[Pair]:
    for kind in ("weight", "bias"):
        joined = getattr(theirs, f"in_proj_{kind}")
        if hasattr(ours, "qkv"):
            yield getattr(ours.qkv, kind), joined, slice(None)
        else:
            yield getattr(ours.query, kind), joined, slice(WIDTH)
            yield getattr(ours.key_value, kind), joined, slice(WIDTH, None)
    yield from of_module(ours.output, theirs.out_proj)


def pairs(ours: Transformer, theirs: Theirs) -> Iterator[Pair]:
    for name in ("encoder", "decoder"):
        stack, their_stack = getattr(ours, name), getattr(theirs, name)
        for layer, their in zip(stack.layers, their_stack.layers, strict=True):
            norms = [their.norm1, their.norm2]
            yield from of_attention(layer.self_attention.sublayer, their.self_attn)
            yield from of_module(layer.self_attention.norm, norms.pop(0))
            if layer.cross_attention is not None:
                yield from of_attention(layer.cross_attention.sublayer, their.multihead_attn)
                yield from of_module(layer.cross_attention.norm, norms.pop(0))
                norms.append(their.norm3)
            yield from of_module(layer.feed_forward.sublayer.expand, their.linear1)
            yield from of_module(layer.feed_forward.sublayer.contract, their.linear2)
            yield from of_module(layer.feed_forward.norm, norms.pop(0))
        if their_stack.norm is not None:
            yield from of_module(stack.norm, their_stack.norm)


@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("kernel", registry.names("kernels"))
def test_states_and_gradients_are_torchs(placement: str, activation: str, kernel: str) -> None:
    torch.manual_seed(0)
    theirs = Theirs(placement, activation).double()
    overrides = {
        "d_model": WIDTH,
        "num_layers": LAYERS,
        "positions": "none",
        "layer.attention.num_heads": HEADS,
        "layer.feed_forward": {"d_ff": HIDDEN, "activation": activation},
        "layer.norm_placement": placement,
    }
    config = TransformerConfig.preset("tiny", vocab_size=2, overrides=overrides)
    ours = Transformer(config).double().eval()
    mapped = list(pairs(ours, theirs))
    stacks = [*ours.encoder.parameters(), *ours.decoder.parameters()]
    assert {id(mine) for mine, _, _ in mapped} == set(map(id, stacks))  # nothing is left out
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms too
            parameter.add_(0.1 * torch.randn_like(parameter))
        for mine, given, rows in mapped:
            mine.copy_(given[rows])

    source, target = torch.randn(4, 9, WIDTH).double(), torch.randn(4, 7, WIDTH).double()
    real = torch.arange(9) < torch.tensor([9, 5, 1, 7])[:, None]
    with kernels.use(kernel):
        memory = Memory(ours.encoder(source, mask=Padding(real)), Padding(real))
        found = ours.decoder(target, mask=Full(), memory=memory)
    expected = theirs(source, target, real)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, given, rows in mapped:
        torch.testing.assert_close(mine.grad, given.grad[rows], rtol=1e-8, atol=1e-9)
