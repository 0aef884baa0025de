"""regard: every Transformer from one set of parts.

``regard.train``, ``regard.evaluate``, ``regard.load`` and ``regard.Recipe`` are what a user needs;
``regard.models`` and ``regard.nn`` are the families and the parts. Nothing heavy is imported before
it is used: ``import regard`` loads no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard import models as models
    from regard import nn as nn
    from regard.evaluation import evaluate as evaluate
    from regard.load import load as load
    from regard.recipe import Recipe as Recipe
    from regard.workflow import train as train

__version__ = "0.1.0"

_LAZY = {
    "Recipe": "regard.recipe:Recipe",
    "evaluate": "regard.evaluation:evaluate",
    "load": "regard.load:load",
    "models": "regard.models",
    "nn": "regard.nn",
    "train": "regard.workflow:train",
}

__all__ = ["Recipe", "__version__", "evaluate", "load", "models", "nn", "train"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'regard' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps ``regard.load`` the function: importing the module of that name would replace it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and ":" in _LAZY.get(name, ""):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
