"""The door by which users have hidden words guessed: a text with masks in, guesses out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from regard.data.framed import IGNORED
from regard.data.masked import SPACES
from regard.data.tokenizers.base import MASK
from regard.errors import InputError
from regard.nn.modes import evaluating

if TYPE_CHECKING:
    from regard.tasks.masked_language_modeling import MaskedLanguageModeling

TOP = 5

MOST_LETTERS = 50
"""Letters that are tried in a mask's place until one is a piece by itself."""


@dataclass(frozen=True)
class Guess:
    """A token that may stand behind a mask.

    Attributes:
        token: as pictures and listings show it.
        probability: its own.
        id: in the vocabulary.
    """

    token: str
    probability: float
    id: int


@dataclass(frozen=True)
class Filled:
    """A text whose masks are guessed.

    Attributes:
        text: with the likeliest token at each.
        masks: of each mask the likeliest tokens, best first.
    """

    text: str
    masks: tuple[tuple[Guess, ...], ...]

    def __str__(self) -> str:
        return self.text


class Filler:
    """Guesses hidden tokens.

    Attributes:
        model: the trained module, called as ``model(ids, mask=)``.
        tokenizer: of its text; ``<mask>`` hides a token.
    """

    def __init__(self, model: nn.Module, task: MaskedLanguageModeling) -> None:
        self.model = model
        self.tokenizer = task.tokenizer
        self._task = task

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Filler: {type(self.model).__name__}, {parameters:,} parameters>"

    def fill(self, texts: str | Sequence[str], *, top: int = TOP) -> Any:
        """Guess what stands behind each ``<mask>``.

        Args:
            texts: a text, or a list of them, each with at least one mask.
            top: guesses of each mask.

        Returns:
            `Filled`; a list for a list.

        Raises:
            InputError: a text without a mask, or one longer than the model reads; no guesses.
        """
        if top < 1:
            raise InputError(f"{top} guesses are none")
        if isinstance(texts, str):
            return self._fill(texts, top)
        return [self._fill(text, top) for text in texts]

    def guesses(self, ids: Sequence[int], top: int) -> list[tuple[Guess, ...]]:
        """Of each mask among the ids of a text, the likeliest tokens."""
        made = self._task.frame.batch([[np.array(ids)]])
        device = next(self.model.parameters()).device
        with evaluating(self.model), torch.inference_mode():
            logits = self.model(made["ids"].to(device), mask=made["mask"].to(device))
        p = word_logits(logits)[0, self._places(ids) + 1].float().softmax(dim=-1).cpu()
        best = p.topk(min(top, p.shape[-1]), dim=-1)
        return [
            tuple(map(Guess, self.tokenizer.tokens(row), values, row))
            for values, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    predict = fill

    def look_inputs(self, text: str, target: str | None = None) -> dict[str, Any]:
        """A text with masks as the model reads it, for `regard.look.look`.

        Args:
            text: what is read.
            target: the token behind a single mask whose loss is watched; None = the likeliest.

        Raises:
            InputError: there is no mask, or the target is no single token.
        """
        ids = self._read(text)
        places = self._places(ids)
        best = [row[0] for row in self.guesses(ids, 1)]
        wanted = [self.tokenizer.encode(target)] if target is not None else []
        if wanted and (len(wanted[0]) != 1 or len(places) != 1):
            raise InputError(f"{target!r} is not one token behind one mask")
        right = wanted[0] if wanted else [guess.id for guess in best]
        made = self._task.frame.batch([[np.array(ids)]])
        labels = torch.full_like(made["ids"], IGNORED)
        labels[0, places + 1] = torch.tensor(right)
        device = next(self.model.parameters()).device
        return {
            "inputs": {name: tensor.to(device) for name, tensor in made.items()},
            "tokens": {"encoder": self.tokenizer.tokens(made["ids"][0].tolist())},
            "labels": labels.to(device),
            "logits": word_logits,
            "target": target or " ".join(guess.token for guess in best),
        }

    def _fill(self, text: str, top: int) -> Filled:
        ids = self._read(text)
        found = self.guesses(ids, top)
        for place, guess in zip(self._places(ids).tolist(), found, strict=True):
            ids[place] = guess[0].id
        return Filled(self.tokenizer.decode(ids), tuple(found))

    def _places(self, ids: Sequence[int]) -> torch.Tensor:
        """Where among the ids of a text masks stand."""
        return (torch.tensor(ids) == self._mask).nonzero()[:, 0]

    @property
    def _mask(self) -> int:
        mask = self.tokenizer.mask_id
        if mask is None:
            raise InputError("the tokenizer has no token to hide others behind")
        return mask

    def _read(self, text: str) -> list[int]:
        """The ids of a text with masks.

        What touches a mask is read as what touches a word: a letter stands in for it while the
        text becomes pieces.

        Raises:
            InputError: there is no mask, or none whose neighbors are pieces of their own; too long.
        """
        own = self.tokenizer.vocabulary[self._mask]
        text = text.replace(own, MASK)  # an imported one may spell it [MASK]
        if MASK not in text:
            raise InputError(
                f"there is no {MASK} in {text!r}",
                hint=f"write {MASK} where a word is to be guessed",
            )
        parts = text.split(MASK)
        ids = next(filter(None, (self._with(letter, parts) for letter in self._letters)), None)
        if ids is None:
            raise InputError(
                f"a {MASK} and what it touches are one piece to the tokenizer",
                hint=f"leave spaces around {MASK}",
            )
        if len(ids) > self._task.longest - 2:
            raise InputError(
                f"the text has {len(ids):,} tokens, the model reads {self._task.longest - 2:,}"
            )
        return ids

    @cached_property
    def _letters(self) -> list[str]:
        """Letters that may stand in for a mask, the plain and the rare ones first."""
        single = [e for e in reversed(self.tokenizer.vocabulary) if len(e) == 1 and e.isalpha()]
        return sorted(single, key=lambda e: not e.isascii())[:MOST_LETTERS] or ["x"]

    @cached_property
    def _spaces(self) -> frozenset[int]:
        """Pieces that are a space alone, where others hold a word with its space."""
        entries = self.tokenizer.vocabulary
        joined = any(len(entry) > 1 and entry.startswith(SPACES) for entry in entries)
        return frozenset(map(entries.index, set(SPACES) & set(entries) if joined else ()))

    def _with(self, letter: str, parts: Sequence[str]) -> list[int] | None:
        """The ids with a mask for each stand-in; None where one is no piece by itself."""
        mask, text = self._mask, letter.join(parts)
        sizes = [len(part) + 1 for part in parts[:-1]]
        holes = {end - 1 for end in itertools.accumulate(sizes)}
        ids, last = list[int](), -1
        pieces = zip(self.tokenizer.encode(text), self.tokenizer.offsets(text), strict=True)
        for piece, (start, end) in pieces:
            if holes.isdisjoint(range(start, end)):
                ids.append(piece)
            elif end - start > 1:
                return None
            elif start != last:  # else one more of the pieces that spell this letter
                if ids and ids[-1] in self._spaces:  # the space is part of what is hidden
                    ids.pop()
                ids.append(mask)
                last = start
        return ids


def word_logits(answer: Any) -> torch.Tensor:
    """Of what the head answers, the logits of words [B, T, V]; beside them may stand others."""
    logits: torch.Tensor = answer if isinstance(answer, torch.Tensor) else answer[0]
    return logits
