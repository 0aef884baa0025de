"""Ranks: the processes that train one model together, started by ``torchrun``.

Gradients are summed once a step, in float32, after the last micro-batch: each rank's loss is
already divided by the whole step's count, so the sum is the unsplit batch's gradient, whatever
share of it a rank had. One process is the same with nothing to sum.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from regard.training import foreach

BUCKET_ELEMENTS = 8 * 2**20
"""Elements that travel together."""

TIMEOUT = timedelta(hours=6)
"""How long a rank waits for another, which may be evaluating."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
        local: its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def any(self, flag: int) -> int:
        """The largest of the ranks' flags."""
        if self.world == 1:
            return flag
        largest = torch.tensor([flag], dtype=torch.int64, device=self._device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest.item())

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Sum each gradient over the ranks in place."""
        if self.world == 1:
            return
        for bucket in _buckets(gradients):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            foreach.copy(
                bucket, [part.view_as(own) for part, own in zip(parts, bucket, strict=True)]
            )

    def share(self, value: Any) -> Any:
        """Rank 0's value, made of what JSON can hold, on every rank."""
        if self.world == 1:
            return value
        data = json.dumps(value).encode() if self.main else b""
        length = self.any(len(data))
        held = torch.zeros(length, dtype=torch.uint8, device=self._device)
        if self.main:
            held.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(held, src=0)
        return json.loads(bytes(held.cpu().tolist()))

    def equalize(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every rank, in order, all of one shape."""
        if self.world == 1:
            return [tensor]
        own = tensor.to(self._device)
        found = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(found, own)
        return [each.to(tensor.device) for each in found]

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let rank 0 run the block before the others do."""
        if not self.main:
            self.any(0)
        try:
            yield
        finally:
            if self.main:
                self.any(0)

    @property
    def _device(self) -> torch.device:
        nccl = dist.get_backend() == "nccl"
        return torch.device("cuda", self.local) if nccl else torch.device("cpu")


@contextmanager
def join(device: str = "auto") -> Iterator[Ranks]:
    """The ranks that ``torchrun`` has started, or this process alone.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``: gloo connects CPUs, NCCL connects GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), world, local)
    finally:
        dist.destroy_process_group()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
