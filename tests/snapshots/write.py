"""Parameter names and shapes of every preset, as JSON beside this file.

After a change that is meant:  python tests/snapshots/write.py
A test compares them (tests/unit/models/test_snapshots.py); imports and old checkpoints rely on
these names.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regard import registry
from regard.registry import Family
from regard.spec import build, resolve

HERE = Path(__file__).parent
VOCABULARY = 32_000
"""Of presets that leave the vocabulary to the tokenizer."""


def presets() -> list[tuple[str, str]]:
    """Each family's name with each of its presets'."""
    return [
        (name, preset) for name in registry.FAMILIES for preset in registry.family(name).presets
    ]


def model(family: Family, preset: str, **settings: Any) -> nn.Module:
    """The preset's model, on no device: names and shapes without numbers."""
    own = dict(family.presets[preset])
    if "vocab_size" in {field.name for field in dataclasses.fields(family.config)}:
        own = {"vocab_size": VOCABULARY, **own}
    config = build(family.config, resolve(family.defaults, own, settings, stacks=family.stacks))
    with torch.device("meta"):
        made: nn.Module = family.model(config)
    return made


def describe(family: str, preset: str) -> dict[str, Any]:
    """Shapes by name; a tied parameter's further names say which it is."""
    made = model(registry.family(family), preset)
    shapes: dict[str, Any] = {}
    first: dict[int, str] = {}
    for name, parameter in made.named_parameters(remove_duplicate=False):
        same = first.setdefault(id(parameter), name)
        shapes[name] = list(parameter.shape) if same == name else f"= {same}"
    count = sum(parameter.numel() for parameter in made.parameters())
    return {"family": family, "preset": preset, "parameters": count, "shapes": shapes}


def path(family: str, preset: str) -> Path:
    return HERE / f"{family}-{preset}.json"


def text(family: str, preset: str) -> str:
    """One parameter a line, so that a difference reads well."""
    described = describe(family, preset)
    shapes = described.pop("shapes")
    head = ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in described.items()
    )
    lines = ",\n".join(
        f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in shapes.items()
    )
    return f'{{\n{head},\n  "shapes": {{\n{lines}\n  }}\n}}\n'


def main() -> None:
    for family, preset in presets():
        path(family, preset).write_text(text(family, preset), encoding="utf-8")
        print(path(family, preset).name)


if __name__ == "__main__":
    main()
