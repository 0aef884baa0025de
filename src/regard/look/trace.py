"""Where a model looks: the attention weights of one forward pass, and what each head is worth.

Shapes: weights [H, Tq, Tk], visible [Tq, Tk], labels [1, T], logits [1, T, V].

The very modules that compute the model's answer are run once more with the dense kernel
(`regard.nn.kernels.watch`), so a picture can show neither another mask nor other weights than the
model used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import InputError
from regard.nn import kernels
from regard.nn.attention import Attention, AttentionContext
from regard.nn.modes import evaluating

Kind = Literal["self", "cross"]
Logits = Callable[[Any], Tensor]

IGNORED = -100
"""A label that does not count."""


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """The attention of one layer.

    Attributes:
        name: the module's, e.g. ``encoder.layers.0.self_attention``.
        stack: ``encoder``, ``decoder`` …
        layer: from 0.
        kind: ``self`` or ``cross``.
        weights: float32 [H, Tq, Tk]; each row sums to 1.
        visible: bool [Tq, Tk], where the mask lets attention go.
        importance: float32 [H], rise of the loss in nats a token when the head gives zeros.
    """

    name: str
    stack: str
    layer: int
    kind: Kind
    weights: Tensor
    visible: Tensor
    importance: Tensor | None = None

    @cached_property
    def entropy(self) -> Tensor:
        """Mean over the queries of -Σ w ln w, in nats [H]."""
        return self._entropies().mean(dim=-1)

    @cached_property
    def relative_entropy(self) -> Tensor:
        """Mean of entropy / ln(keys that the query may see) [H]: 0 = one key, 1 = all alike.

        Queries that see one key have no choice and don't count; NaN where no query has one.
        """
        most = self.visible.sum(dim=-1).float().log()  # [Tq]
        choice = most > 0
        shares: Tensor = self._entropies()[:, choice] / most[choice]
        return shares.mean(dim=-1)

    def _entropies(self) -> Tensor:
        each: Tensor = torch.special.entr(self.weights)
        return each.sum(dim=-1)  # [H, Tq]

    def focus(self, head: int) -> tuple[str, float]:
        """The place that a head looks at most, and the share of its attention there.

        Places are ``previous``, ``same`` and ``next`` (self-attention only), ``first`` and
        ``last`` key. The share is the mean over the queries that can see such a key.
        """
        shares = {name: _share(self.weights[head], self.visible, at) for name, at in self._places()}
        best = max(shares, key=lambda name: shares[name])
        return best, shares[best]

    def _places(self) -> Iterator[tuple[str, Tensor]]:
        queries, keys = self.visible.shape
        rows = torch.arange(queries)
        if self.kind == "self":
            yield from (("previous", rows - 1), ("same", rows), ("next", rows + 1))
        yield from (("first", rows * 0), ("last", rows * 0 + keys - 1))


def _share(weights: Tensor, visible: Tensor, at: Tensor) -> float:
    """Mean of the weights [Tq, Tk] at one key for each query [Tq], where it can be seen."""
    rows = torch.arange(len(at))
    inside = (at >= 0) & (at < visible.shape[1])
    rows, at = rows[inside], at[inside]
    seen = visible[rows, at]
    return float(weights[rows, at][seen].mean()) if bool(seen.any()) else 0.0


@dataclass(frozen=True, eq=False)
class Trace:
    """The attention of every layer in one forward pass over one example.

    Attributes:
        layers: in the order in which they ran.
        tokens: the tokens that each stack reads, by the stack's name.
        predicts: what each position of the last stack should say next, where labels were given.
        loss: mean -ln p of the labels, in nats a token, where they were given.
        rolled: whether each layer's "head" is a rollout (`regard.look.rollout`).
    """

    layers: tuple[LayerAttention, ...]
    tokens: Mapping[str, tuple[str, ...]]
    predicts: tuple[str, ...] = ()
    loss: float | None = None
    rolled: bool = False

    def __getitem__(self, name: str) -> LayerAttention:
        """The layer called, e.g., ``encoder.layers.0.self_attention``."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no attention called {name!r}; there are {[x.name for x in self.layers]}")

    def views(self) -> dict[tuple[str, Kind], list[LayerAttention]]:
        """The layers by (stack, kind), each list from the lowest layer to the highest."""
        found: dict[tuple[str, Kind], list[LayerAttention]] = {}
        for layer in self.layers:
            found.setdefault((layer.stack, layer.kind), []).append(layer)
        return found

    def queries(self, layer: LayerAttention) -> tuple[str, ...]:
        """The tokens that look, Tq of them."""
        return self.tokens[layer.stack]

    def keys(self, layer: LayerAttention) -> tuple[str, ...]:
        """The tokens looked at, Tk of them."""
        if layer.kind == "self":
            return self.tokens[layer.stack]
        memory = next(stack for stack in self.tokens if stack != layer.stack)
        return self.tokens[memory]


def trace(
    model: nn.Module,
    inputs: Mapping[str, Any],
    tokens: Mapping[str, Sequence[str]],
    *,
    labels: Tensor | None = None,
    logits: Logits | None = None,
    predicts: Sequence[str] = (),
    importance: bool = False,
) -> Trace:
    """Run ``model(**inputs)`` on one example and keep what each head looked at.

    Args:
        model: any model made of `regard.nn` parts; its mode and weights stay as they are.
        inputs: its keyword arguments, tensors [1, …].
        tokens: what to call the tokens that each stack reads, by the stack's name.
        labels: [1, T], the right answers to the model's logits (-100 = does not count).
        logits: what of the model's outputs the labels answer to, [1, T, C]; by default the
            outputs, or the first of several.
        predicts: what to call the labels.
        importance: switch each head off in turn and note the rise of the loss.

    Raises:
        InputError: for more than one example, names that do not fit the tensors, or importance
            without labels.
    """
    if importance and labels is None:
        raise InputError("what a head is worth can only be told with a target")
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) != 1:
            raise InputError(f"a picture shows one example, {name} holds {len(value)}")
    run = _Pass(model, inputs, labels, logits or _first)
    with evaluating(model), torch.no_grad():
        seen, loss = _run(run)
        layers = [_layer(name, index, *parts) for name, index, *parts in _named(model, seen)]
        if importance:
            assert loss is not None
            layers = [
                replace(layer, importance=_importance(run, module, loss))
                for layer, (module, _, _) in zip(layers, seen, strict=True)
            ]
    named = {stack: tuple(words) for stack, words in tokens.items()}
    result = Trace(tuple(layers), named, tuple(predicts), loss)
    for layer in layers:
        _check(result, layer)
    return result


Seen = tuple[Attention, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class _Pass:
    """A forward pass over one example, and how its loss is made."""

    model: nn.Module
    inputs: Mapping[str, Any]
    labels: Tensor | None
    logits: Logits

    def loss(self) -> float | None:
        outputs = self.model(**self.inputs)
        if self.labels is None:
            return None
        logits = self.logits(outputs).flatten(0, -2).float()  # [T, C]
        return float(F.cross_entropy(logits, self.labels.flatten(), ignore_index=IGNORED))


def _first(outputs: Any) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else cast(Tensor, outputs[0])


def _run(run: _Pass) -> tuple[list[Seen], float | None]:
    """One pass: each attention with its weights [H, Tq, Tk] and visible table [Tq, Tk]."""
    contexts: list[AttentionContext] = []
    seen: list[Seen] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (*args, *kwargs.values())
        contexts.append(next(value for value in given if isinstance(value, AttentionContext)))

    def keep(module: nn.Module, weights: Tensor) -> None:
        assert isinstance(module, Attention)
        heads = weights[0].float().cpu()
        allowed = contexts[-1].mask.allowed
        visible = torch.ones(heads.shape[1:], dtype=torch.bool)
        if allowed is not None:
            visible = allowed[0, 0].cpu().expand_as(visible)
        seen.append((module, heads, visible))

    attentions = [module for module in run.model.modules() if isinstance(module, Attention)]
    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in attentions]
    try:
        with kernels.watch(keep):
            loss = run.loss()
    finally:
        for hook in hooks:
            hook.remove()
    return seen, loss


def _importance(run: _Pass, module: Attention, loss: float) -> Tensor:
    """How much the loss rises without each head [H]."""
    rises = []
    for head in range(module.spec.num_heads):
        with kernels.switch_off(module, [head]):
            without = run.loss()
        assert without is not None
        rises.append(without - loss)
    return torch.tensor(rises)


def _named(model: nn.Module, seen: Sequence[Seen]) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Each attention by its module's name; one that runs twice is two layers."""
    names = {module: name.removesuffix(".sublayer") for name, module in model.named_modules()}
    uses: dict[tuple[str, Kind], int] = {}
    for module, weights, visible in seen:
        place = _place(names[module])
        index = uses.get(place, 0)
        uses[place] = index + 1
        yield names[module], index, weights, visible


def _place(name: str) -> tuple[str, Kind]:
    path = name.split(".")
    stack = path[path.index("layers") - 1] if "layers" in path[1:] else path[0]
    return stack, "cross" if "cross_attention" in path else "self"


def _layer(name: str, index: int, weights: Tensor, visible: Tensor) -> LayerAttention:
    stack, kind = _place(name)
    return LayerAttention(name, stack, index, kind, weights, visible)


def _check(found: Trace, layer: LayerAttention) -> None:
    needed = 2 if layer.kind == "cross" else 1
    if layer.stack not in found.tokens or len(found.tokens) < needed:
        raise InputError(
            "its tokens have no names", where=layer.name, hint=f"named: {', '.join(found.tokens)}"
        )
    _, queries, keys = layer.weights.shape
    for words, count in ((found.queries(layer), queries), (found.keys(layer), keys)):
        if len(words) != count:
            raise InputError(f"{len(words)} names for {count} tokens", where=layer.name)
