"""Recipes: a TOML file that says all of a run, typed, strict and resolved."""

from regard.recipe.compare import as_settings, carry_on, differences
from regard.recipe.files import builtin_names, builtin_text, is_run, recipe_text
from regard.recipe.recipe import Recipe
from regard.recipe.schema import json_schema, markdown_table
from regard.recipe.sections import (
    Checkpoint,
    Data,
    Decoding,
    Evaluation,
    LengthPenalty,
    Objective,
    Optimizer,
    Schedule,
    Split,
    Tokenizer,
    Training,
)

__all__ = [
    "Checkpoint",
    "Data",
    "Decoding",
    "Evaluation",
    "LengthPenalty",
    "Objective",
    "Optimizer",
    "Recipe",
    "Schedule",
    "Split",
    "Tokenizer",
    "Training",
    "as_settings",
    "builtin_names",
    "builtin_text",
    "carry_on",
    "differences",
    "is_run",
    "json_schema",
    "markdown_table",
    "recipe_text",
]
