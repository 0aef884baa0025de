"""A foreign config read key by key: what is not understood is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from regard.errors import InputError


class Settings:
    """The keys of a ``config.json``; each is taken once.

    Args:
        values: the file's content.
        where: the file, for errors.
        architecture: of the model; a body and what stands on it differ there alone.
        tensors: the weights' by their names, for what only they tell.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: str,
        *,
        architecture: str = "",
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._left = dict(values)
        self._tensors = dict(tensors or {})
        self.where = where
        self.architecture = architecture

    def holds(self, tensor: str) -> bool:
        """Whether the weights have a tensor of this name."""
        return tensor in self._tensors

    def differ(self, one: str, other: str) -> bool:
        """Whether the weights have tensors of both names, and not the same numbers twice."""
        if not (self.holds(one) and self.holds(other)):
            return False
        first, second = self._tensors[one], self._tensors[other]
        return first.is_meta or not torch.equal(first, second)

    def take(self, key: str, default: Any = ...) -> Any:
        """A key's value.

        Raises:
            InputError: it is missing, and there is no default.
        """
        if key in self._left:
            return self._left.pop(key)
        if default is ...:
            raise InputError(f"the key {key!r} is missing", where=self.where)
        return default

    def expect(self, **wanted: Any) -> None:
        """Keys that, if they are there, must have these values; a tuple lists several."""
        for key, values in wanted.items():
            allowed = values if isinstance(values, tuple) else (values,)
            found = self._left.pop(key, allowed[0])
            if found not in allowed:
                known = ", ".join(map(repr, allowed))
                raise InputError(
                    f"{key} = {found!r} is not supported", where=self.where, hint=f"known: {known}"
                )

    def translate(self, key: str, words: Mapping[Any, Any], default: Any = ...) -> Any:
        """A key's value in our words.

        Raises:
            InputError: for a value that has none.
        """
        found = self.take(key, default)
        if found not in words:
            known = ", ".join(map(repr, words))
            raise InputError(
                f"{key} = {found!r} is not supported", where=self.where, hint=f"known: {known}"
            )
        return words[found]

    def ignore(self, keys: Iterable[str]) -> None:
        """Keys that say nothing about the model's numbers."""
        for key in keys:
            self._left.pop(key, None)

    def refusal(self, what: str) -> InputError:
        """The error for something that is not supported."""
        return InputError(what, where=self.where)

    def done(self) -> None:
        """Every key must have been taken.

        Raises:
            InputError: naming those that were not.
        """
        if self._left:
            names = ", ".join(sorted(self._left))
            raise InputError(
                f"these settings are not known: {names}",
                where=self.where,
                hint="they might change the model's numbers, so nothing was imported",
            )
