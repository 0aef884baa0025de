"""Caches for decoding: keys and values of what was already read or written.

Shapes: tokens [R, n] with R = sentences * width; keys and values [rows, Hkv, slots, d];
ancestry [sentences, width, slots].

Two caches, equal by law. `CopyCache` has a row for each hypothesis and copies rows when beams
change. `SharedCache` has a row for each sentence, in which hypotheses lie side by side: slots
never move, and an ancestry table says which slots a hypothesis came from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from regard.nn.masks import Causal, Explicit, Full, Rule

GROWTH = 64
"""Slots by which buffers grow at least, so that few steps copy them."""


class LayerCache:
    """Keys and values of one layer.

    Attributes:
        dtype: in which they are held; None = as they come.
        memory: the memory's keys and values [rows, Hkv, S, d], projected once a sentence.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self.memory: tuple[Tensor, Tensor] | None = None
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._length = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values [rows, Hkv, n, d]; give all of them, [rows, Hkv, slots, d]."""
        rows, heads, count, _ = key.shape
        keys, values, start = self.room(rows, heads, count, (key.shape[3], value.shape[3]), key)
        end = start + count
        keys[:, :, start:end] = key
        values[:, :, start:end] = value
        return keys[:, :, :end].to(key.dtype), values[:, :, :end].to(value.dtype)

    def room(
        self, rows: int, heads: int, count: int, widths: tuple[int, int], like: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        """Room for n more slots, taken as filled: the buffers, and where the new ones begin.

        Args:
            rows, heads, count, widths: of the keys and values to come; their widths are two.
            like: a tensor of their device, and of the dtype in which they come.
        """
        start, end = self._length, self._length + count
        if self._buffers is None or end > self._buffers[0].shape[2]:
            capacity = max(end, 2 * start, GROWTH)
            like = like.new_empty(0, dtype=self.dtype)
            grown = [like.new_empty(rows, heads, capacity, width) for width in widths]
            for new, old in zip(grown, self._buffers or (), strict=False):
                new[:, :, :start] = old[:, :, :start]
            self._buffers = grown[0], grown[1]
        self._length = end
        return *self._buffers, start

    def select(self, rows: Tensor, *, memory: bool = True) -> None:
        """Keep these rows [rows'] in this order."""
        if self._buffers is not None:
            keys, values = (self._select(buffer, rows) for buffer in self._buffers)
            self._buffers = keys, values
        if memory and self.memory is not None:
            keys, values = (part.index_select(0, rows) for part in self.memory)
            self.memory = keys, values

    def _select(self, buffer: Tensor, rows: Tensor) -> Tensor:
        """These rows of a buffer, copied as far as it is filled."""
        made = buffer.new_empty(len(rows), *buffer.shape[1:])
        made[:, :, : self._length] = buffer[:, :, : self._length].index_select(0, rows)
        return made


class Cache(ABC):
    """What both caches share; `DecodingState` talks to this face alone.

    Args:
        num_layers, sentences: how many.
        width: hypotheses of each sentence.
        dtype: in which keys and values are held; None = as they come.

    Attributes:
        layers: a `LayerCache` for each layer.
        slots: how many slots are filled; the first query of a step has this slot.
        length: tokens that each hypothesis has so far.
        positions: [1, slots], of the keys that are held, those of the open step included.
        fused: whether a stack makes its steps by one call; None where nobody asked yet.
        fused_ends: the same of the embedding before it and the head behind it.
    """

    def __init__(
        self, num_layers: int, sentences: int, width: int, dtype: torch.dtype | None = None
    ) -> None:
        self.layers = [LayerCache(dtype) for _ in range(num_layers)]
        self.sentences = sentences
        self.width = width
        self.slots = 0
        self.length = 0
        self.positions: Tensor | None = None
        self.fused: bool | None = None
        self.fused_ends: bool | None = None

    def set_memory(self, parts: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Hand each layer its memory's keys and values [sentences, Hkv, S, d]."""
        for layer, given in zip(self.layers, parts, strict=True):
            keys, values = (self.spread(_held(part, layer.dtype)) for part in given)
            layer.memory = keys, values

    @property
    def memory_length(self) -> int:
        """Keys of the memory, S."""
        memory = self.layers[0].memory
        return 0 if memory is None else memory[0].shape[2]

    def _go_on(self, count: int, device: torch.device) -> Tensor:
        """Each hypothesis is n tokens longer; their positions, [1, n]."""
        start = self.length
        self.length += count
        return torch.arange(start, self.length, device=device)[None]

    def _place(self, positions: Tensor) -> Tensor:
        """Note where the step's new slots are, [1, T]."""
        old = self.positions
        self.positions = positions if old is None else torch.cat([old, positions], dim=1)
        return positions

    @abstractmethod
    def spread(self, per_sentence: Tensor) -> Tensor:
        """[sentences, …] → a row for each row of the cache."""

    @abstractmethod
    def open(self, tokens: Tensor) -> tuple[Tensor, Tensor, Rule]:
        """Begin a step with tokens [R, n]: ids [rows, T], positions [rows or 1, T], the mask."""

    @abstractmethod
    def close(self, states: Tensor) -> Tensor:
        """End the step: states [rows, T, d] → the last of each hypothesis, [R, d]."""

    @abstractmethod
    def advance(self, parents: Tensor) -> None:
        """Hypothesis r goes on from what was hypothesis parents[r], [R], of its sentence."""

    @abstractmethod
    def keep(self, sentences: Tensor) -> Tensor:
        """Only these sentences [S'] stay; gives the rows of the cache that do."""


class CopyCache(Cache):
    """A row for each hypothesis: simple, and the truth for the other."""

    def spread(self, per_sentence: Tensor) -> Tensor:
        """[sentences, …] → [R, …]."""
        return per_sentence.repeat_interleave(self.width, dim=0)

    def open(self, tokens: Tensor) -> tuple[Tensor, Tensor, Rule]:
        """The tokens as they are, after those of earlier steps."""
        count = tokens.shape[1]
        return tokens, self._place(self._go_on(count, tokens.device)), Causal()

    def close(self, states: Tensor) -> Tensor:
        """The last state of each row."""
        self.slots = self.length
        return states[:, -1]

    def advance(self, parents: Tensor) -> None:
        """Copy rows, unless each goes on from itself."""
        if torch.equal(parents, torch.arange(len(parents), device=parents.device)):
            return
        for layer in self.layers:
            layer.select(parents, memory=False)

    def keep(self, sentences: Tensor) -> Tensor:
        """Drop the rows of the other sentences."""
        within = torch.arange(self.width, device=sentences.device)
        rows = (sentences[:, None] * self.width + within).flatten()
        for layer in self.layers:
            layer.select(rows)
        self.sentences = len(sentences)
        return rows


class SharedCache(Cache):
    """A row for each sentence, whose slots never move; an ancestry table finds each past."""

    def __init__(
        self, num_layers: int, sentences: int, width: int, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(num_layers, sentences, width, dtype)
        self._ancestry: Tensor | None = None  # bool [sentences, width, slots]
        self._own: Tensor | None = None  # of the last step's new slots; the next is often alike

    def spread(self, per_sentence: Tensor) -> Tensor:
        """[sentences, …] as it is."""
        return per_sentence

    def open(self, tokens: Tensor) -> tuple[Tensor, Tensor, Rule]:
        """Hypotheses side by side: ids [sentences, width * n]."""
        count, width = tokens.shape[1], self.width
        positions = self._go_on(count, tokens.device)  # [1, n]
        if width == 1:
            return tokens, self._place(positions), Causal()
        positions = self._place(positions.repeat(1, width))  # [1, width * n]
        past = self._ancestry
        if past is None:
            past = tokens.new_zeros(self.sentences, width, 0, dtype=torch.bool)
        if self._own is None or self._own.shape[1] != count:
            self._own = _own_slots(width, count, tokens.device)
        own = self._own.expand(self.sentences, -1, -1, -1)
        seen = torch.cat([past[:, :, None].expand(-1, -1, count, -1), own], dim=-1)
        self._ancestry = seen[:, :, -1]
        ids = tokens.reshape(self.sentences, width * count)
        return ids, positions, Explicit(seen.flatten(1, 2))

    def close(self, states: Tensor) -> Tensor:
        """The last state of each hypothesis."""
        self.slots += states.shape[1]
        count = states.shape[1] // self.width
        return states[:, count - 1 :: count].flatten(0, 1)

    def advance(self, parents: Tensor) -> None:
        """Each hypothesis takes over its parent's ancestry; no key moves."""
        if self._ancestry is not None:
            rows = self._ancestry.flatten(0, 1)[parents]
            self._ancestry = rows.view_as(self._ancestry)

    def keep(self, sentences: Tensor) -> Tensor:
        """Drop the other sentences' rows."""
        for layer in self.layers:
            layer.select(sentences)
        if self._ancestry is not None:
            self._ancestry = self._ancestry[sentences]
        self.sentences = len(sentences)
        return sentences


def _held(part: Tensor, dtype: torch.dtype | None) -> Tensor:
    """In one piece, as batched products would copy it at every step otherwise."""
    if dtype is None or dtype == part.dtype:
        return part.contiguous()
    return torch.empty(part.shape, dtype=dtype, device=part.device).copy_(part)


def _own_slots(width: int, count: int, device: torch.device) -> Tensor:
    """Which of a step's new slots each new token may see: bool [width, n, width * n]."""
    same = torch.eye(width, dtype=torch.bool, device=device)[:, None, :, None]
    before = torch.ones(count, count, dtype=torch.bool, device=device).tril()[None, :, None, :]
    return (same & before).reshape(width, count, width * count)


CACHES: dict[str, type[Cache]] = {"copy": CopyCache, "shared": SharedCache}


class DecodingState:
    """What a model remembers between steps, whatever its family.

    Attributes:
        cache: keys and values.
        memory_mask: which keys of the memory are real, a row for each row of the cache.
    """

    def __init__(self, cache: Cache, memory_mask: Rule | None = None) -> None:
        self.cache = cache
        self.memory_mask = Full() if memory_mask is None else memory_mask

    @property
    def sentences(self) -> int:
        """Sentences still in the batch."""
        return self.cache.sentences

    @property
    def width(self) -> int:
        """Hypotheses a sentence."""
        return self.cache.width

    @property
    def length(self) -> int:
        """Tokens that each hypothesis has so far."""
        return self.cache.length

    def advance(self, parents: Tensor) -> None:
        """Row r goes on from what was row ``parents[r]`` [R], of the same sentence."""
        if self.width > 1:
            self.cache.advance(parents)

    def keep(self, sentences: Tensor) -> None:
        """Finished sentences leave: only these [S'] stay, in this order."""
        rows = self.cache.keep(sentences)
        self.memory_mask = self.memory_mask.select(rows)
