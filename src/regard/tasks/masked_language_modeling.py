"""Masked language modeling: plain text in, an encoder that guesses hidden words.

It is how a BERT is pre-trained, on a text file or on the records of a table as documents, in blocks
of ``data.max_length`` tokens; then other tasks start from its weights. (Devlin et al., 2019.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from regard.data import BlockSource
from regard.data.framed import IGNORED, Frame
from regard.data.masked import MaskedBlocks, Masking
from regard.data.tokenizers.base import MASK
from regard.errors import RecipeError
from regard.metrics import Score
from regard.nn.modes import evaluating
from regard.objectives import MaskedLM
from regard.tasks.blocks import SHOWN, BlockTask
from regard.tasks.filler import Filler
from regard.tasks.task import Evaluation, Examples, Sample
from regard.training import validation_loss
from regard.training.objective import on_device


class MaskedLanguageModeling(BlockTask):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "masked-language-modeling"
    family: ClassVar[str] = "bert"
    verb: ClassVar[str] = "fill"
    metrics: ClassVar[tuple[str, ...]] = ("masked_accuracy",)
    batches: ClassVar[str | tuple[str, ...]] = "masked"
    stand_in: ClassVar[Mapping[str, Any]] = {"vocab_size": 8, "head": "masked_lm"}

    @property
    def special(self) -> tuple[str, ...]:
        """What hides a token."""
        return (MASK,)

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary, and the head that the objective needs."""
        follows = {"next_sentence": True} if self._pairs else {}
        return {**super().model_settings(), "head": {"kind": "masked_lm", **follows}}

    @property
    def _pairs(self) -> bool:
        return bool(getattr(self.objective(), "next_sentence", False))

    @property
    def longest(self) -> int:
        """Tokens of a text that are read, special ones included."""
        return min(self.recipe.data.max_length, super().longest)

    @property
    def frame(self) -> Frame:
        """The special tokens around a text."""
        config = self.recipe.model_config_for(self.model_settings())
        return Frame.of(self.tokenizer, int(getattr(config, "num_segments", 0)))

    @property
    def block_length(self) -> int:
        """A block holds one token more than this: what a causal model would predict from.

        Raises:
            RecipeError: nothing is left of ``data.max_length`` beside the special tokens.
        """
        length = self.longest - self.frame.specials(2 if self._pairs else 1) - 1
        if length < 1:
            raise RecipeError(
                f"{self.longest} tokens leave no room for text beside the special ones",
                where="data.max_length",
            )
        return length

    def batches_of(self, blocks: BlockSource) -> MaskedBlocks:
        """Blocks with tokens hidden."""
        objective = self.objective()
        whole = bool(getattr(objective, "whole_word", False))
        masking = Masking.of(self.tokenizer, objective.mask_rate, whole_word=whole)
        return MaskedBlocks(blocks, self.frame, masking, next_sentence=self._pairs)

    # Use

    def predictor(self, model: nn.Module) -> Filler:
        """The door by which users have hidden words guessed."""
        return Filler(model, self)

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Loss and perplexity of a hidden token, and how many are guessed; the same are hidden."""
        begun = time.perf_counter()
        source = self.batches_of(self.in_memory(examples))
        smooth = MaskedLM(next_sentence=self._pairs)
        nll = validation_loss(model, smooth, source)["nll"]
        right, count = self._guessed(model, source)
        rate = getattr(self.objective(), "mask_rate", 0.15)
        how = f"nats a hidden token, {100 * rate:.0f} % hidden, texts of {self.longest}"
        scores = {
            "loss": Score("loss", nll, how),
            "perplexity": Score("perplexity", math.exp(min(nll, 700.0)), "exp of the loss"),
            "masked_accuracy": Score("masked accuracy", 100 * right / max(count, 1), ""),
        }
        seconds = time.perf_counter() - begun
        return Evaluation(scores, self.show(model, samples) if samples else (), (), seconds)

    def _guessed(self, model: nn.Module, source: MaskedBlocks) -> tuple[int, int]:
        """Hidden tokens whose likeliest guess is right, and all of them."""
        device, found, count = next(model.parameters()).device, 0, 0
        given: Any = model
        with evaluating(model), torch.inference_mode():
            for k in range(source.num_micro_batches(0)):
                batch = on_device(source.micro_batch(0, k), device)
                where = batch["labels"] != IGNORED
                mask, segments = batch["mask"], batch.get("segments")
                states = given.features(batch["ids"], mask=mask, segments=segments)[where]
                head = given.head
                logits = nn.functional.linear(head.transform(states), head.weight, head.bias)
                found += int((logits.argmax(dim=-1) == batch["labels"][where]).sum())
                count += len(states)
        return found, count

    def sample(self, model: nn.Module, example: str) -> Sample:
        """The beginning of a text with one token hidden."""
        ids = self.tokenizer.encode(example[: SHOWN * 40])[: min(SHOWN, self.longest - 2)]
        if not ids or self.tokenizer.mask_id is None:
            return Sample(example, "", "")
        place, hidden = len(ids) // 2, self.tokenizer.tokens(ids)
        ids[place] = self.tokenizer.mask_id
        ((guess,),) = self.predictor(model).guesses(ids, 1)
        shown = " ".join([*hidden[:place], MASK, *hidden[place + 1 :]])
        return Sample(shown, hidden[place], guess.token)

    def as_read(self, text: str) -> str:
        """What is between words does not matter here."""
        return " ".join(text.split())


TASK = MaskedLanguageModeling
