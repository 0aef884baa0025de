"""A toy model, objective and source for tests of the loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.training import TrainingSettings
from regard.training.settings import (
    CheckpointSettings,
    EvaluationSettings,
    OptimizerSettings,
    ScheduleSettings,
)


@dataclass(frozen=True)
class ToyTerm:
    sum: Tensor
    count: float
    weight: float = 1.0


class Layer(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.dropout(self.linear(x).relu(), self.dropout, self.training)
        return self.norm(x + y)


class Toy(nn.Module):
    """Two layers between tied matrices; one buffer that stays with the weights."""

    def __init__(self, width: int = 8, words: int = 11, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Layer(width, dropout) for _ in range(2))
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("offset", torch.zeros(width))
        self.gradient_checkpointing = False

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.offset.to(self.embedding.weight.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class ToyObjective:
    decomposable = True

    def counts(self, batch: dict[str, Tensor]) -> dict[str, float]:
        count = float(batch["mask"].sum())
        return {"loss": count, "nll": count}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, ToyTerm]:
        logits = model(batch["ids"]).float()
        each = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), reduction="none"
        )
        total = (each * batch["mask"].flatten()).sum()
        count = float(batch["mask"].sum())
        return {"loss": ToyTerm(total, count), "nll": ToyTerm(total.detach(), count, 0.0)}


class ToySource:
    """Micro-batches drawn from (epoch, k); their sizes differ."""

    def __init__(self, batches: int = 7, length: int = 5, words: int = 11) -> None:
        self.batches, self.length, self.words = batches, length, words

    def num_micro_batches(self, epoch: int) -> int:
        return self.batches

    def micro_batch(self, epoch: int, k: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1000 * epoch + k)
        rows = 2 + k % 3
        ids = torch.randint(self.words, (rows, self.length), generator=random)
        mask = torch.ones(rows, self.length, dtype=torch.bool)
        mask[0, self.length - 1 - k % 2 :] = False
        example = torch.arange(rows) + 10 * k
        return {"ids": ids, "labels": (ids + 1) % self.words, "mask": mask, "example": example}

    def describe(self, batch: dict[str, Tensor]) -> list[str]:
        return [f"toy:{number}" for number in batch["example"].tolist()]


def toy_settings(**changes: object) -> TrainingSettings:
    """20 steps of Adam in float32 on one thread, saved every 5, evaluated every 5."""
    usual: dict[str, object] = {
        "max_steps": 20,
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "log_every": 1,
        "optimizer": OptimizerSettings(eps=1e-8),
        "schedule": ScheduleSettings(kind="constant", peak=0.01, warmup_steps=0),
        "checkpoint": CheckpointSettings(every_steps=5, keep=3),
        "evaluation": EvaluationSettings(every_steps=5),
    }
    return TrainingSettings(**(usual | changes))  # type: ignore[arg-type]


def toy_model(**options: object) -> Toy:
    torch.manual_seed(0)
    return Toy(**options)  # type: ignore[arg-type]
