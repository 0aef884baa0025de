"""Rules that say where attention may go.

Shapes: slots of queries [Tq], slots of keys [Tk], answers [B or 1, 1, Tq, Tk]; True = may see.

A rule is a small frozen value that answers "may query slot i see key slot j?". Slots are places
in the tensors, not positions in the text: a cache gives the slot of the first query. Rules compose
with ``&`` and ``|``; those that hold tensors move with ``.to`` and choose rows with ``.select``.
They are never compared or hashed. `prepare` turns a rule into the cheapest form that a kernel can
use.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from regard.errors import InputError

R = TypeVar("R", bound="Rule")


@dataclass(frozen=True, eq=False)
class Rule(ABC):
    """Base of the mask rules."""

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether each query slot [Tq] may see each key slot [Tk].

        Returns:
            bool, broadcastable to [B, 1, Tq, Tk].
        """

    def __and__(self, other: Rule) -> Rule:
        if isinstance(self, Full):
            return other
        return self if isinstance(other, Full) else Both(self, other)

    def __or__(self, other: Rule) -> Rule:
        if isinstance(self, Full) or isinstance(other, Full):
            return Full()
        return Either(self, other)

    def to(self: R, device: torch.device | str) -> R:
        """The same rule with its tensors on ``device``."""
        return self._each(lambda tensor: tensor.to(device))

    def select(self: R, rows: Tensor) -> R:
        """The rule of these rows [B'] of the batch, in this order."""
        return self._each(lambda tensor: tensor.index_select(0, rows))

    def _each(self: R, change: Any) -> R:
        changed: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = change(value)
            elif isinstance(value, Rule):
                changed[item.name] = value._each(change)
        return dataclasses.replace(self, **changed)


@dataclass(frozen=True, eq=False)
class Full(Rule):
    """Every query sees every key."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones(1, 1, len(query), len(key), dtype=torch.bool, device=key.device)


@dataclass(frozen=True, eq=False)
class Causal(Rule):
    """A query sees the keys up to its own slot (paper, section 3.2.3)."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (key[None, :] <= query[:, None])[None, None]


@dataclass(frozen=True, eq=False)
class Padding(Rule):
    """Keys that hold real tokens are seen.

    Attributes:
        real: bool [B, Tk], True = a real token.
    """

    real: Tensor

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.real[:, None, None, key]


@dataclass(frozen=True, eq=False)
class Prefix(Rule):
    """The first slots of a row are seen by all; with ``Causal() | Prefix(n)`` a prefix LM's mask.

    Attributes:
        lengths: int64 [B], how many.
    """

    lengths: Tensor

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return key[None, None, None, :] < self.lengths[:, None, None, None]


@dataclass(frozen=True, eq=False)
class Documents(Rule):
    """Tokens see their own document alone, where several share a row.

    Attributes:
        ids: int64 [B, T], the document that each slot belongs to.
    """

    ids: Tensor

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return (self.ids[:, query, None] == self.ids[:, None, key])[:, None]


@dataclass(frozen=True, eq=False)
class Explicit(Rule):
    """A table that says it outright, as a cache knows which slots a hypothesis came from.

    Attributes:
        table: bool [B, Tq, Tk].
    """

    table: Tensor

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.table[:, None]


@dataclass(frozen=True, eq=False)
class Both(Rule):
    """Where both rules allow it."""

    first: Rule
    second: Rule

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.first.allows(query, key) & self.second.allows(query, key)


@dataclass(frozen=True, eq=False)
class Either(Rule):
    """Where either rule allows it."""

    first: Rule
    second: Rule

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.first.allows(query, key) | self.second.allows(query, key)


for _rule in (Full, Causal, Padding, Prefix, Documents, Explicit, Both, Either):
    torch.export.register_dataclass(_rule)


def as_rule(mask: Tensor | Rule | None) -> Rule:
    """A mask as users hand it over: None, a bool [B, T] (True = real) or a rule.

    Raises:
        InputError: for a tensor that is not bool, such as one of zeros and ones.
    """
    if mask is None:
        return Full()
    if isinstance(mask, Rule):
        return mask
    if mask.dtype != torch.bool:
        raise InputError(f"a mask is bool, not {mask.dtype}", hint="hand over mask.bool()")
    return Padding(mask)


def keys_only(rule: Rule) -> Rule:
    """A rule of an encoder's own tokens, as queries of another sequence may use it.

    Raises:
        InputError: it asks for the query's slot, which in cross-attention is another text's.
    """
    if isinstance(rule, Full | Padding):
        return rule
    raise InputError(
        f"{type(rule).__name__} tells queries apart by their slot: cross-attention, whose queries "
        "are another text's, cannot follow it",
        where="source_mask",
        hint="hand over a bool mask, or encode each text in a row of its own",
    )


@dataclass(frozen=True, eq=False)
class MaskForm:
    """A rule made ready for a kernel, once for all layers of a stack.

    Attributes:
        kind: ``none`` (all is seen), ``causal`` (square, from slot 0) or ``dense`` (a table).
        queries, keys: how many there are, Tq and Tk.
        table: bool [B or 1, 1, Tq, Tk] for ``dense``, else None.
    """

    kind: Literal["none", "causal", "dense"]
    queries: int
    keys: int
    device: torch.device
    table: Tensor | None = None
    _made: dict[Any, Tensor | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def allowed(self) -> Tensor | None:
        """bool, broadcastable to [B, 1, Tq, Tk]; None where all is seen."""
        if self.kind != "causal":
            return self.table
        if "allowed" not in self._made:
            slots = torch.arange(self.keys, device=self.device)
            self._made["allowed"] = Causal().allows(slots, slots)
        return self._made["allowed"]

    @property
    def blind(self) -> Tensor | None:
        """bool [B or 1, 1, Tq, 1]: queries that may see nothing; None where there are none."""
        if self.table is None:
            return None
        if "blind" not in self._made:
            blind = ~self.table.any(dim=-1, keepdim=True)
            none = _can_look(blind) and not bool(blind.any())
            self._made["blind"] = None if none else blind
        return self._made["blind"]

    def additive(self, dtype: torch.dtype) -> Tensor | None:
        """0 where a query may see a key, else the lowest half of ``dtype``'s range.

        Finite, so that a row that sees nothing gives numbers, which `blind` then sets to zero.
        """
        allowed = self.allowed
        if allowed is None:
            return None
        if dtype not in self._made:
            zeros = torch.zeros(allowed.shape, dtype=dtype, device=self.device)
            self._made[dtype] = zeros.masked_fill_(~allowed, torch.finfo(dtype).min / 2)
        return self._made[dtype]


def prepare(
    rule: Rule, queries: int, keys: int, *, device: torch.device, offset: int = 0
) -> MaskForm:
    """The cheapest form of a rule for ``queries`` slots from ``offset`` on, over ``keys`` slots."""
    if isinstance(rule, Full) or _hides_nothing(rule):
        return MaskForm("none", queries, keys, device)
    if isinstance(rule, Causal):
        if queries == 1 and offset == keys - 1:
            return MaskForm("none", queries, keys, device)
        if offset == 0 and queries == keys:
            return MaskForm("causal", queries, keys, device)
    slots = torch.arange(max(keys, offset + queries), device=device)
    table = rule.allows(slots[offset : offset + queries], slots[:keys])
    return MaskForm("dense", queries, keys, device, table.expand(-1, -1, queries, keys))


def _hides_nothing(rule: Rule) -> bool:
    return isinstance(rule, Padding) and _can_look(rule.real) and bool(rule.real.all())


def _can_look(tensor: Tensor) -> bool:
    """Whether a value may steer Python: not in a compiled graph, and never waiting for a GPU."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
