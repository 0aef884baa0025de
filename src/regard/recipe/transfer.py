"""Keys of ``model`` that say what of it trains: ``freeze`` and ``adapter``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regard.errors import RecipeError
from regard.spec import KindSpec, plain


@dataclass(frozen=True)
class AdapterSpec(KindSpec):
    """What is trained beside the weights of another run, which stay as they are."""

    group = "adapters"
    kind: str = "lora"

    def in_full(self) -> dict[str, Any]:
        """Plain values of the kind and of each of its options."""
        _, options = self.resolve()
        return {"kind": self.kind, **plain(options)}


def read_adapter(model: Mapping[str, Any]) -> AdapterSpec | None:
    """The adapter that a recipe's model table asks for.

    Raises:
        RecipeError: it is none, or there are no weights that it could stand beside.
    """
    given = model.get("adapter")
    if given is None:
        return None
    table = {"kind": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        raise RecipeError(f"needs a kind or a table, not {given!r}", where="model.adapter")
    spec = AdapterSpec.from_settings(table, "model.adapter")
    if "start_from" not in model:
        raise RecipeError(
            "an adapter needs trained weights that it stands beside",
            where="model.adapter",
            hint="say which: model.start_from = RUN",
        )
    return spec


def read_freeze(model: Mapping[str, Any]) -> list[str]:
    """The parts of the model that do not train, as a recipe's model table names them.

    Raises:
        RecipeError: it is no list of names.
    """
    given = model.get("freeze", [])
    if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
        raise RecipeError(
            f"needs a list of names, not {given!r}",
            where="model.freeze",
            hint='e.g. model.freeze = ["embedding", "encoder.layers.0"]',
        )
    return given
