"""Image classification: a picture in, its class out.

Data are folders or archives with a folder for each class, tables of paths with labels, or IDX
files; see `regard.data.readers.pictures`. (Dosovitskiy et al., 2020.)
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from regard.data.codecs import Labels, Target
from regard.data.picture_batches import PictureBatches
from regard.metrics import Comparison
from regard.metrics.classification import compare_all, ranked_scorers, score_all
from regard.nn.modes import evaluating
from regard.recipe import Recipe
from regard.tasks.picture_classifier import PictureClassifier
from regard.tasks.pictures import LabeledPictures
from regard.tasks.stored import Picture
from regard.tasks.task import Evaluation, Examples, Sample

RANKS = 5
"""Classes that an answer names when it is scored, the likeliest first."""


class ImageClassification(LabeledPictures):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "image-classification"
    verb: ClassVar[str] = "classify"
    batches: ClassVar[str] = "labels"
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")
    stand_in: ClassVar[Mapping[str, Any]] = {"head": {"kind": "classification", "num_classes": 2}}

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.target: Target = Labels(())

    # Data

    def collate(self) -> PictureBatches:
        """Pictures with their labels."""
        return PictureBatches(self.form, self.augmentation, self.tokens, self.target)

    def model_settings(self) -> dict[str, Any]:
        """The head that the labels need."""
        return {"head": {"kind": "classification", "num_classes": len(self.labels) or 2}}

    # Use

    def predictor(self, model: nn.Module) -> PictureClassifier:
        """The door by which users classify."""
        return PictureClassifier(model, self)

    def logits(self, model: nn.Module, pictures: Sequence[Picture]) -> Tensor:
        """What the head answers, float32 [N, C]."""
        device = next(model.parameters()).device
        with evaluating(model), torch.inference_mode():
            made = [model(one.to(device)).float().cpu() for one in self.batched(pictures)]
        return torch.cat(made)

    def ranked(self, model: nn.Module, pictures: Sequence[Picture]) -> list[tuple[str, ...]]:
        """The likeliest classes of each picture, the likeliest first."""
        best = self.logits(model, pictures).topk(min(RANKS, len(self.labels))).indices
        return [tuple(self.labels[n] for n in row) for row in best.tolist()]

    def evaluate(
        self,
        model: nn.Module,
        examples: Examples,
        options: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Classify and score; ``options`` of decoding mean nothing here."""
        begun = time.perf_counter()
        answered = self.ranked(model, examples.sources)
        seconds = time.perf_counter() - begun
        right = self._numbers([(label,) for label in examples.references])[:, 0]
        scores = score_all(ranked_scorers(), right, self._numbers(answered), resamples)
        return Evaluation(scores, _samples(examples, answered, samples), answered, seconds)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """By paired bootstrap resampling."""
        right = self._numbers([(label,) for label in examples.references])[:, 0]
        made = (self._numbers(one.outputs) for one in (ours, theirs))
        return compare_all(ranked_scorers(), right, *made)

    def _numbers(self, answers: Sequence[tuple[str, ...]]) -> Any:
        """Classes as numbers [N, K]; one that this run does not know is wrong."""
        known = {name: number for number, name in enumerate(self.labels)}
        return np.array([[known.get(name, -1) for name in row] for row in answers])

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The first few validation pictures with their likeliest classes."""
        if not count or self.recipe.data.valid is None:
            return []
        few = self.examples(self.of_split("valid"), count)
        return _samples(few, self.ranked(model, few.sources), count)


def _samples(examples: Examples, answered: Sequence[tuple[str, ...]], count: int) -> list[Sample]:
    rows = zip(map(str, examples.sources), examples.references, answered, strict=True)
    return [Sample(name, label, row[0]) for name, label, row in itertools.islice(rows, count)]


TASK = ImageClassification
