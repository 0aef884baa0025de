"""Language modeling: plain text in, a model that writes on.

Training data are a text file, read as one text (``data.train = { file = "input.txt" }``), or a
table of which each record is a document of its own (``fields = { text = "story" }``): documents are
packed into blocks, and attention does not cross their edges.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from regard.tasks.blocks import SHOWN, BlockTask
from regard.tasks.generator import Generator
from regard.tasks.task import Sample


class LanguageModeling(BlockTask):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "language-modeling"
    verb: ClassVar[str] = "generate"

    def predictor(self, model: nn.Module) -> Generator:
        """The door by which users let the model write on."""
        return Generator(model, self.tokenizer, self.decoding())

    def sample(self, model: nn.Module, example: str) -> Sample:
        """The beginning of a text."""
        ids = self.tokenizer.encode(example)
        half = min(SHOWN, self.longest // 2, max(1, len(ids) // 2))
        prompt = self.tokenizer.decode(ids[:half])
        written = self.predictor(model).generate(prompt, strategy="greedy", max_new_tokens=half)
        goes_on = self.tokenizer.decode(ids[half : 2 * half])
        return Sample(prompt, goes_on, written.removeprefix(prompt))


TASK = LanguageModeling
