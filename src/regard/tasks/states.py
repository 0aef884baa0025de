"""States: what a model without a head gives, such as an imported encoder's body.

Nothing is trained here. Another task starts from such a run (``model.start_from``) with a head of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from torch import nn

from regard.data import Tokenizer
from regard.data.framed import Frame
from regard.errors import InputError, RunError
from regard.metrics import Comparison
from regard.recipe import Recipe
from regard.tasks.task import Evaluation, Examples, Report, Sample, Splits, Task
from regard.tasks.text import TOKENIZER, stored


class Reader:
    """A model and its tokenizer.

    Attributes:
        model: called as ``model(ids)`` or ``model(pixels)``; it gives states, or what its head
            says.
        tokenizer: of its text, if it reads such.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer | None) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Reader: {type(self.model).__name__}, {parameters:,} parameters>"

    def look_inputs(self, text: str, target: str | None = None) -> dict[str, Any]:
        """A text as the model reads it, for `regard.look.look`.

        Raises:
            InputError: a target is given, the text is too long, or the model reads none.
        """
        if self.tokenizer is None:
            raise InputError("this model reads pictures, and has no head to look at them for")
        if target is not None:
            raise InputError("a model without a head answers nothing: leave the target out")
        config: Any = self.model.config
        frame = Frame.of(self.tokenizer, int(getattr(config, "num_segments", 0)))
        ids = self.tokenizer.encode(text)
        if len(ids) > config.max_positions - 2:
            raise InputError(f"the text has {len(ids):,} tokens, more than the model reads")
        device = next(self.model.parameters()).device
        made = frame.batch([[np.array(ids, dtype=np.int64)]])
        return {
            "inputs": {name: tensor.to(device) for name, tensor in made.items()},
            "tokens": {"encoder": self.tokenizer.tokens(made["ids"][0].tolist())},
        }


class States(Task):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "states"
    family: ClassVar[str] = "bert"
    verb: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ("augmentation",)

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer: Tokenizer | None = None

    def prepare(self, run: Path, report: Report) -> Splits:
        """Nothing is trained on states alone."""
        self._refuse()

    def open(self, run: Path) -> None:
        """Read the tokenizer of a run that reads text."""
        if self.recipe.augmentation is not None:
            return
        found = stored(self.recipe, run)
        if not found:
            raise RunError("the run has no tokenizer", where=str(run / TOKENIZER))
        (self.tokenizer,) = found

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary, where there is one."""
        return {} if self.tokenizer is None else {"vocab_size": self.tokenizer.vocab_size}

    def predictor(self, model: nn.Module) -> Reader:
        """The model and its tokenizer."""
        return Reader(model, self.tokenizer)

    def objective(self) -> Any:
        """None."""
        self._refuse()

    def read(self, data: Mapping[str, Any] | None = None, *, split: str = "valid") -> Examples:
        """There is nothing to score."""
        self._refuse()

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """There is nothing to score."""
        self._refuse()

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """There is nothing to score."""
        self._refuse()

    def check_inputs(self, count: int) -> str:
        """There are no data."""
        self._refuse()

    def show(self, model: nn.Module, count: int) -> Sequence[Sample]:
        """There are no data."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RunError(
            "a model without a head gives states: it is neither trained nor scored",
            hint="start another task from it: model.start_from = RUN",
        )


TASK = States
