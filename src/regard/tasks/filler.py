"""The door by which users have hidden words guessed: a text with masks in, guesses out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from regard.data.framed import IGNORED
from regard.data.tokenizers.base import MASK
from regard.errors import InputError
from regard.nn.modes import evaluating

if TYPE_CHECKING:
    from regard.tasks.masked_language_modeling import MaskedLanguageModeling

TOP = 5


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
            InputError: a text without a mask, or one longer than the model reads.
        """
        if isinstance(texts, str):
            return self._fill(texts, top)
        return [self._fill(text, top) for text in texts]

    def guesses(self, parts: Sequence[Sequence[int]], top: int) -> list[tuple[Guess, ...]]:
        """Of each mask between some ids, the likeliest tokens."""
        ids, places = self._hidden(parts)
        frame = self._task.frame
        made = frame.batch([[np.array(ids)]])
        device = next(self.model.parameters()).device
        with evaluating(self.model), torch.inference_mode():
            logits = self.model(made["ids"].to(device), mask=made["mask"].to(device))
        if not isinstance(logits, torch.Tensor):  # beside it: whether segments belong together
            logits = logits[0]
        p = logits[0, torch.tensor(places) + 1].float().softmax(dim=-1).cpu()
        best = p.topk(min(top, p.shape[-1]), dim=-1)
        return [
            tuple(
                Guess(token, probability, number)
                for token, probability, number in zip(
                    self.tokenizer.tokens(row.tolist()), values.tolist(), row.tolist(), strict=True
                )
            )
            for values, row in zip(best.values, best.indices, strict=True)
        ]

    def look_inputs(self, text: str, target: str | None = None) -> dict[str, Any]:
        """A text with masks as the model reads it, for `regard.look.look`.

        Args:
            text: what is read.
            target: the token behind a single mask whose loss is watched; None = the likeliest.

        Raises:
            InputError: there is no mask, or the target is no single token.
        """
        parts = [self.tokenizer.encode(part.strip()) for part in self._split(text)]
        ids, places = self._hidden(parts)
        best = [row[0] for row in self.guesses(parts, 1)]
        wanted = [self.tokenizer.encode(target)] if target is not None else []
        if wanted and (len(wanted[0]) != 1 or len(places) != 1):
            raise InputError(f"{target!r} is not one token behind one mask")
        right = wanted[0] if wanted else [guess.id for guess in best]
        made = self._task.frame.batch([[np.array(ids)]])
        labels = torch.full_like(made["ids"], IGNORED)
        labels[0, torch.tensor(places) + 1] = torch.tensor(right)
        device = next(self.model.parameters()).device
        return {
            "inputs": {name: tensor.to(device) for name, tensor in made.items()},
            "tokens": {"encoder": self.tokenizer.tokens(made["ids"][0].tolist())},
            "labels": labels.to(device),
            "target": target or " ".join(guess.token for guess in best),
        }

    def _fill(self, text: str, top: int) -> Filled:
        parts = [self.tokenizer.encode(part.strip()) for part in self._split(text)]
        found = self.guesses(parts, top)
        whole = list(parts[0])
        for guess, part in zip(found, parts[1:], strict=True):
            whole += [guess[0].id, *part]
        return Filled(self.tokenizer.decode(whole), tuple(found))

    def _split(self, text: str) -> list[str]:
        hidden = self.tokenizer.mask_id
        own = MASK if hidden is None else self.tokenizer.vocabulary[hidden]
        parts = text.replace(own, MASK).split(MASK)  # an imported one may spell it [MASK]
        if len(parts) < 2:
            raise InputError(
                f"there is no {MASK} in {text!r}",
                hint=f"write {MASK} where a word is to be guessed",
            )
        return parts

    def _hidden(self, parts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        """Ids with a mask between the parts, and where the masks stand."""
        mask = self.tokenizer.mask_id
        if mask is None:
            raise InputError("the tokenizer has no token to hide others behind")
        ids, places = list(parts[0]), []
        for part in parts[1:]:
            places.append(len(ids))
            ids += [mask, *part]
        if len(ids) > self._task.longest - 2:
            raise InputError(
                f"the text has {len(ids):,} tokens, the model reads {self._task.longest - 2:,}"
            )
        return ids, places
