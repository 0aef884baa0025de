"""Families, a file each: a note, a config, presets, and the wiring."""

from regard.models.transformer import Transformer, TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]
