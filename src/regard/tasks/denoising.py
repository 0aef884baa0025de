"""Text to text from plain text alone: spans are hidden behind sentinels, the model writes them.

It is how a T5 is pre-trained, on a text file or on the records of a table as documents, in blocks
whose two sides both fit into ``data.max_length`` tokens; then text to text starts from its weights.
(Raffel et al., 2020, section 3.1.4.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from regard.data import BlockSource
from regard.data.corruption import GAPS, CorruptedBlocks, Corruption, gap, gap_ids
from regard.metrics import Score
from regard.nn.modes import evaluating
from regard.tasks.blocks import SHOWN, BlockTask
from regard.tasks.task import Evaluation, Examples, Sample
from regard.tasks.writer import Writer
from regard.training import validation_loss
from regard.training.objective import on_device


class Denoising(BlockTask):
    """Text to text under a recipe whose objective hides spans; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "text-to-text"
    family: ClassVar[str] = "t5"
    verb: ClassVar[str] = "generate"
    metrics: ClassVar[tuple[str, ...]] = ("exact_spans",)
    batches: ClassVar[str | tuple[str, ...]] = "spans"
    strategy: ClassVar[str] = "beam"

    @property
    def special(self) -> tuple[str, ...]:
        """The sentinels."""
        return tuple(gap(number) for number in range(GAPS))

    @property
    def longest(self) -> int:
        """Tokens of a side, its end token included."""
        return min(self.recipe.data.max_length, super().longest)

    @property
    def corruption(self) -> Corruption:
        """What the objective says of spans, with the tokenizer's sentinels."""
        objective, tokenizer = self.objective(), self.tokenizer
        return Corruption(
            objective.mask_rate,
            objective.span_length,
            gap_ids(tokenizer),
            tokenizer.start_id,
            tokenizer.end_id,
        )

    @property
    def block_length(self) -> int:
        """A block holds one token more than this: what a causal model would predict from."""
        return self.corruption.block(self.longest) - 1

    def batches_of(self, blocks: BlockSource) -> CorruptedBlocks:
        """Blocks with spans hidden."""
        return CorruptedBlocks(blocks, self.corruption)

    # Use

    def predictor(self, model: nn.Module) -> Writer:
        """The door by which users have gaps filled."""
        return Writer(model, self.tokenizer, self.decoding())

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Loss of a hidden token, and how many spans are right; the same are hidden at each call.

        A span is right where each of its tokens is the likeliest after the right ones before it.
        """
        begun = time.perf_counter()
        source = self.batches_of(self.in_memory(examples))
        nll = validation_loss(model, self.objective(), source)["nll"]
        right, count = self._spans(model, source)
        objective = self.objective()
        told = f"{100 * objective.mask_rate:g} % in spans of {objective.span_length:g}"
        scores = {
            "loss": Score("loss", nll, f"nats a token, sides of {self.longest}"),
            "perplexity": Score("perplexity", math.exp(min(nll, 700.0)), "exp of the loss"),
            "exact_spans": Score("exact spans", 100 * right / count, told),
        }
        seconds = time.perf_counter() - begun
        return Evaluation(scores, self.show(model, samples) if samples else (), (), seconds)

    def _spans(self, model: nn.Module, source: CorruptedBlocks) -> tuple[int, int]:
        """Spans of which every token is the likeliest, and all of them."""
        device, right, count = next(model.parameters()).device, 0, 0
        first = torch.tensor(source.corruption.gap_ids, device=device)
        with evaluating(model), torch.inference_mode():
            for k in range(source.num_micro_batches(0)):
                batch = on_device(source.micro_batch(0, k), device)
                wanted = batch["target_ids"][:, 1:]  # [B, T]
                logits = model(batch["source_ids"], batch["target_ids"][:, :-1])
                wrong = (logits.argmax(dim=-1) != wanted) & ~torch.isin(wanted, first)
                wrong[:, -1] = False  # the end
                number = torch.isin(wanted, first).cumsum(dim=1)  # [B, T], from 1
                spans = int(number.max())
                faults = torch.zeros(len(wanted), spans + 1, device=device)
                faults.scatter_add_(1, number, wrong.to(faults.dtype))
                right += int((faults[:, 1:] == 0).sum())
                count += len(wanted) * spans
        return right, count

    def sample(self, model: nn.Module, example: str) -> Sample:
        """The beginning of a text with one span hidden."""
        ids = np.array(self.tokenizer.encode(example[: SHOWN * 40])[: min(SHOWN, self.longest - 2)])
        if len(ids) < 3:
            return Sample(example, "", "")
        start = len(ids) // 2
        end = min(start + 3, len(ids))
        before, hidden, after = (self.tokenizer.decode(x) for x in np.split(ids, [start, end]))
        shown = f"{before.rstrip()} {gap(0)}{after}"
        written = self.predictor(model).generate(shown, strategy="greedy", max_new_tokens=SHOWN)
        return Sample(shown, f"{gap(0)} {hidden.strip()}", written)
