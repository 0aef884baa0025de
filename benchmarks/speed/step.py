"""Time a training step of a GPT (nanoGPT's two sizes), of BERT-base, T5-small or ViT-tiny/16.

    python benchmarks/speed/step.py gpt-cpu|gpt-gpu|bert|t5|vit [--precision bfloat16]

Run by hand, or by the peers' ``--versus`` (``gpt`` = the size of their case): the same shapes,
dropouts and optimizer as the peers of their jobs ``lm``, ``bert``, ``t5`` and ``vit``. Forward,
backward, clip (GPT), fused AdamW. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from functools import partial

import torch
from torch import Tensor

from regard.models import BERT, GPT, T5, BERTConfig, GPTConfig, T5Config, ViT, ViTConfig
from regard.nn import backend, native
from regard.objectives import CrossEntropy, MaskedLM, NextToken
from regard.objectives.classes import Classes
from regard.training import foreach
from regard.training.adam import Adam
from regard.training.precision import make_precision

GPT_SIZES = {
    # preset, blocks of a batch, tokens of a block, dropout: nanoGPT's CPU and GPU settings
    "gpt-cpu": ("nano-cpu", 12, 64, 0.0),
    "gpt-gpu": ("nano", 64, 256, 0.2),
}
CHARACTERS = 65
BERT_SHAPE = (8, 128)
VOCABULARY, MASK, MASKED, IGNORED = 30_522, 103, 0.15, -100
T5_SHAPE, T5_VOCABULARY = (16, 64), 32_128
PICTURES, CLASSES = (32, 3, 224, 224), 1000
BATCHES = 10
UNITS = "units"
"""What a batch has of what rates count: tokens, or pictures."""


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if not options.give_back:
        backend.keep_heap()
    native.load()
    model, objective, batches, clip = MADE[options.size]()
    precision = make_precision(options.precision, model)
    weights = list(precision.trained_weights.values())
    optimizer = Adam(
        [{"params": weights, "lr": 1e-4, "weight_decay": 0.01}],
        betas=(0.9, 0.99),
        eps=1e-8,
        decoupled=True,
    )

    def step(batch: dict[str, Tensor]) -> float:
        term = objective(model, batch)["loss"]
        loss = term.sum / term.count
        precision.backward(loss)
        gradients = precision.gradients()
        if clip:
            norm = float(foreach.norms(gradients).norm())
            if norm > clip:
                foreach.scale(gradients, clip / norm)
        precision.step(optimizer)
        precision.forget()
        return loss.item()

    for batch in batches[: options.warmup]:
        step(batch)
    rates = [window(step, batches, options.seconds) for _ in range(options.windows)]
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    unit, done = ("images" if options.size == "vit" else "tokens"), batches[0][UNITS]
    found = {f"{unit}_per_s": middle, "min": low, "max": high, "ms_a_step": 1e3 * done / middle}
    print(json.dumps(found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=(*MADE, "gpt"))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--give-back", action="store_true", help="leave the heap as it is")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("PEERS_THREADS", "2")))
    parser.add_argument("--warmup", type=int, default=2, help="steps")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="a window lasts at least this")
    options = parser.parse_args()
    if options.size == "gpt":
        options.size = f"gpt-{os.environ.get('PEERS_CASE', 'cpu')}"
    return options


def gpt(size: str):
    preset, count, length, dropout = GPT_SIZES[size]
    names = ("embedding.dropout", "layer.dropout", "layer.attention.dropout")
    overrides = dict.fromkeys(names, dropout)
    model = GPT(GPTConfig.preset(preset, vocab_size=CHARACTERS, overrides=overrides)).train()
    batches = [
        {"ids": torch.randint(CHARACTERS, (count, length + 1)), UNITS: count * length}
        for _ in range(BATCHES if size == "gpt-cpu" else 2)
    ]
    return model, NextToken(), batches, 1.0


def bert():
    config = BERTConfig.preset("base", vocab_size=VOCABULARY, overrides={"head": "masked_lm"})
    model = BERT(config).train()
    batches = []
    for _ in range(2):
        ids = torch.randint(1000, VOCABULARY, BERT_SHAPE)
        hidden = torch.rand(BERT_SHAPE) < MASKED
        batches.append(
            {
                "ids": ids.masked_fill(hidden, MASK),
                "mask": torch.ones(BERT_SHAPE, dtype=torch.bool),
                "labels": ids.masked_fill(~hidden, IGNORED),
                UNITS: ids.numel(),
            }
        )
    return model, MaskedLM(), batches, None


def t5():
    model = T5(T5Config.preset("small", vocab_size=T5_VOCABULARY)).train()
    batches = []
    for _ in range(2):
        source = torch.randint(2, T5_VOCABULARY - 128, T5_SHAPE)
        target = torch.randint(2, T5_VOCABULARY - 128, (T5_SHAPE[0], T5_SHAPE[1] + 1))
        batches.append(
            {
                "source_ids": source,
                "source_mask": torch.ones_like(source, dtype=torch.bool),
                "target_ids": target,  # the first is the start, which nobody predicts
                "target_mask": torch.ones_like(target, dtype=torch.bool),
                UNITS: 2 * source.numel(),
            }
        )
    return model, CrossEntropy(0.0), batches, None


def vit():
    head = {"head": {"kind": "classification", "num_classes": CLASSES}}
    model = ViT(ViTConfig.preset("tiny-16", overrides=head)).train()
    batches = [
        {
            "pixels": torch.randn(PICTURES),
            "labels": torch.randint(CLASSES, PICTURES[:1]),
            UNITS: PICTURES[0],
        }
        for _ in range(2)
    ]
    return model, Classes(), batches, None


MADE = {
    **{name: partial(gpt, name) for name in GPT_SIZES},
    "bert": bert,
    "t5": t5,
    "vit": vit,
}
"""A model, its objective, batches, and the norm at which gradients are clipped."""


def window(step, batches, seconds: float) -> float:
    """Tokens or pictures a second over whole passes."""
    done, start = 0, time.perf_counter()
    while True:
        for batch in batches:
            step(batch)
            done += batch[UNITS]
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


if __name__ == "__main__":
    main()
