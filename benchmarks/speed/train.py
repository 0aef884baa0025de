"""Time regard's training step on the peers' batches: forward, backward, Adam.

Run by hand, or by the peers' ``--versus`` (see run_train.py). The batches come from
``PEERS_BATCHES`` or ``--batches``; the shape from ``PEERS_SHAPE`` or ``--shape``. The settings
are the peers': post-norm ReLU layers, one matrix for both embeddings and the head, dropout on
embeddings and residuals alone, label smoothing 0.1, Adam. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regard.cost import cost
from regard.models.transformer import Transformer, TransformerConfig
from regard.nn import backend, kernels, native
from regard.objectives import CrossEntropy
from regard.training.adam import Adam
from regard.training.precision import make_precision

VOCAB = 10_000
DROPOUT = {"tiny": 0.3, "base": 0.1}
Batch = dict[str, Tensor]
Step = Callable[[Batch], float]


def main() -> None:
    options = parse()
    torch.set_num_threads(int(os.environ.get("PEERS_THREADS", options.threads)))
    torch.manual_seed(0)
    if not options.give_back:
        backend.keep_heap()
    native.load()
    batches = load(options.batches)
    model = make_model(options)
    step = stepper(model, options.precision)
    step(first_row(batches[0]))  # makes moments
    if options.held:
        from benchmarks.speed.held import held_by  # the rest runs without this package

        largest = max(batches, key=padded_tokens)
        print(
            json.dumps({"held_mib": held_by(lambda: mean_loss(model, largest).backward(), model)})
        )
        return
    with kernels.use(options.kernel) if options.kernel else torch.enable_grad():
        for _ in range(options.warmup):
            for batch in batches:
                step(batch)
        if options.profile:
            profile(step, batches)
            return
        rates = [window(step, batches, options.seconds) for _ in range(options.windows)]
    found = {"tokens_per_s": statistics.median(rates), "min": min(rates), "max": max(rates)}
    found |= {"peak_mib": peak_memory()}
    if options.share:
        flops = flops_a_token(options.shape) * found["tokens_per_s"]
        found["share_of_products"] = flops / products(options.precision)
    print(json.dumps(found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=Path, default=os.environ.get("PEERS_BATCHES"))
    parser.add_argument("--shape", choices=DROPOUT, default=os.environ.get("PEERS_SHAPE", "tiny"))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--attention-dropout", type=float, default=0.0)
    parser.add_argument("--checkpointing", action="store_true", help="compute layers twice")
    parser.add_argument("--share", action="store_true", help="of what products alone would reach")
    parser.add_argument("--kernel", help="force one attention kernel")
    parser.add_argument("--give-back", action="store_true", help="leave the heap as it is")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1, help="passes over the batches")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="a window lasts at least this")
    parser.add_argument("--profile", action="store_true", help="where a pass spends its time")
    parser.add_argument("--held", action="store_true", help="what a step's activations hold")
    options = parser.parse_args()
    if options.batches is None or not options.batches.exists():
        parser.error(f"--batches: there is no such file: {options.batches}")
    return options


def load(path: Path) -> list[Batch]:
    """The peers' arrays as regard's batches: True in a mask = a real token."""
    arrays = np.load(path)
    batches = []
    for index in range(len(arrays.files) // 2):
        source = torch.from_numpy(arrays[f"source_{index}"])
        target = torch.from_numpy(arrays[f"target_{index}"])
        batches.append(
            {
                "source_ids": source,
                "source_mask": source != 0,
                "target_ids": target,
                "target_mask": target != 0,
            }
        )
    return batches


def make_model(options: argparse.Namespace) -> Transformer:
    dropout = DROPOUT[options.shape]
    overrides = {
        "max_positions": 256,
        "embedding.dropout": dropout,
        "layer.dropout": dropout,
        "layer.attention.dropout": options.attention_dropout,
    }
    config = TransformerConfig.preset(options.shape, vocab_size=VOCAB, overrides=overrides)
    model = Transformer(config).train()
    for stack in (model.encoder, model.decoder):
        stack.gradient_checkpointing = options.checkpointing
    return model


def stepper(model: Transformer, format_name: str) -> Step:
    """Forward, backward and Adam on a batch, in a precision; the loss comes back."""
    precision = make_precision(format_name, model)
    weights = list(precision.trained_weights.values())
    optimizer = Adam(
        [{"params": weights, "lr": 1e-4}], betas=(0.9, 0.98), eps=1e-8, decoupled=False
    )

    def step(batch: Batch) -> float:
        loss = mean_loss(model, batch)
        precision.backward(loss)
        precision.gradients()
        precision.step(optimizer)
        return loss.item()

    return step


def mean_loss(model: Transformer, batch: Batch) -> Tensor:
    term = CrossEntropy(0.1)(model, batch)["loss"]
    return term.sum / term.count


def padded_tokens(batch: Batch) -> int:
    return batch["source_ids"].numel() + batch["target_ids"].numel()


def first_row(batch: Batch) -> Batch:
    return {name: held[:1] for name, held in batch.items()}


def peak_memory() -> float:
    """MiB that this process held at most."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def flops_a_token(shape: str, length: int = 32) -> float:
    """Forward and backward, a real source or target token of texts of that length."""
    config = TransformerConfig.preset(shape, vocab_size=VOCAB)
    found = cost("transformer", config, lengths=(length,))
    return found.lengths[0].training / found.sides


def products(precision: str, size: int = 2048, windows: int = 5) -> float:
    """FLOP/s of square products in a precision; the best of a few windows."""
    one = torch.randn(size, size, dtype=getattr(torch, precision))
    one @ one
    best = 0.0
    for _ in range(windows):
        begun = time.perf_counter()
        for _ in range(10):
            one @ one
        best = max(best, 20 * size**3 / (time.perf_counter() - begun))
    return best


def tokens(batch: Batch) -> int:
    return int(batch["source_mask"].sum() + batch["target_mask"][:, 1:].sum())


def window(step: Step, batches: list[Batch], seconds: float) -> float:
    """Real source and target tokens a second over whole passes."""
    done, start = 0, time.perf_counter()
    while True:
        for batch in batches:
            step(batch)
            done += tokens(batch)
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


def profile(step: Step, batches: list[Batch]) -> None:
    with torch.profiler.profile() as seen:
        for batch in batches:
            step(batch)
    table = seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=45)
    print(table)


if __name__ == "__main__":
    main()
