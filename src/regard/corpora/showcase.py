"""Sentences for the end of the demo, one for each thing that German asks of a translator."""

from __future__ import annotations

from regard.corpora.corpus import Pair

DEMO_SHOWCASE: tuple[Pair, ...] = ()
