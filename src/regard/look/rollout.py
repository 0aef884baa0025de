"""Attention rollout (Abnar and Zuidema, 2020): how much of each input has come up to each layer.

Shapes: weights [H, Tq, Tk]; a rollout [1, Tq, Tk], in the place of a layer's heads.

Heads are averaged, and every residual counts half: after self-attention W a state is (W + I)/2 of
those below; after cross-attention C it is half itself and half C of what the memory holds.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from regard.look.trace import Trace


def rollout(found: Trace) -> Trace:
    """The same pass, with one picture a layer: the shares of all input tokens in its states.

    A decoder's states come from its own inputs and from the encoder's; in each of the two pictures
    a row is scaled to sum to 1.
    """
    shares: dict[str, dict[str, Tensor]] = {}  # by stack: of whose inputs its states are made
    layers = []
    for layer in found.layers:
        mean = layer.weights.mean(dim=0)
        before = shares.setdefault(layer.stack, {layer.stack: torch.eye(len(mean))})
        read = layer.stack if layer.kind == "self" else _memory(shares, layer.stack)
        taken = {stack: mean @ share for stack, share in shares[read].items()}
        nothing = torch.zeros(())
        shares[layer.stack] = {
            stack: (before.get(stack, nothing) + taken.get(stack, nothing)) / 2
            for stack in before | taken
        }
        share = shares[layer.stack][read]
        weights = (share / share.sum(dim=-1, keepdim=True))[None]
        layers.append(replace(layer, weights=weights, importance=None))
    return replace(found, layers=tuple(layers), rolled=True)


def last_rollout(found: Trace) -> Tensor:
    """Of the highest layer [Tq, Tk], also where the trace is a rollout already."""
    return (found if found.rolled else rollout(found)).layers[-1].weights[0]


def _memory(shares: dict[str, dict[str, Tensor]], stack: str) -> str:
    return next(other for other in shares if other != stack)
