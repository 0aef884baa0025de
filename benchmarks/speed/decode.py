"""Time regard's decoding on the peers' sentences: greedy or a beam, the end forbidden.

Run by hand, or by the peers' ``--versus``. The sentences come from ``PEERS_MODEL`` or
``--sources``, else they are made up with lengths like theirs; the weights are random. Every
sentence gets ``PEERS_LENGTH`` tokens. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from regard.decoding import DecodingSpec, search_many
from regard.models.transformer import Transformer, TransformerConfig
from regard.nn import backend, native
from regard.nn.packing import pack
from regard.nn.quantized import quantize

VOCAB = 10_000
END, PAD = 0, VOCAB - 1  # as in the peers' Marian model, whose outputs start from the padding
PRECISIONS = ("float32", "bfloat16", "int8")
SINGLES = (4, 12, 20, 28)  # the sentences that the peers decode alone


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if not options.give_back:
        backend.keep_heap()
    model, batches = make_model(options), make_batches(options)
    for _ in range(options.warmup):
        decode(model, batches, options)
    if options.profile:
        profile(model, batches, options)
        return
    rates = [window(model, batches, options) for _ in range(options.windows)]
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    print(json.dumps({"tokens_per_s": middle, "min": low, "max": high}))


def parse() -> argparse.Namespace:
    environment = os.environ.get
    model = environment("PEERS_MODEL")
    sources = Path(model) / "sources.npz" if model else None
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, default=sources)
    parser.add_argument("--shape", default=environment("PEERS_SHAPE", "base"))
    parser.add_argument("--beam", type=int, default=int(environment("PEERS_BEAM", "1")))
    parser.add_argument("--batch", type=int, default=int(environment("PEERS_BATCH", "32")))
    parser.add_argument("--length", type=int, default=int(environment("PEERS_LENGTH", "32")))
    parser.add_argument("--threads", type=int, default=int(environment("PEERS_THREADS", "2")))
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--plain", action="store_true", help="do not pack the weights")
    parser.add_argument("--parts", action="store_true", help="without the operators in C++")
    parser.add_argument("--cache", choices=("shared", "copy"), help="force one kind of cache")
    parser.add_argument("--give-back", action="store_true", help="leave the heap as it is")
    parser.add_argument("--warmup", type=int, default=2, help="passes over the sentences")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="a window lasts at least this")
    parser.add_argument("--profile", action="store_true", help="where a pass spends its time")
    options = parser.parse_args()
    if options.sources and not options.sources.exists():
        parser.error(f"--sources: there is no such file: {options.sources}")
    return options


def make_model(options: argparse.Namespace) -> Transformer:
    overrides = {"max_positions": 256, "head.bias": True}  # Marian's logits have a bias
    config = TransformerConfig.preset(options.shape, vocab_size=VOCAB, overrides=overrides)
    model = in_precision(Transformer(config).eval(), options)
    if options.cache:
        start = model.start

        def with_cache(*sources, **settings):
            return start(*sources, cache=options.cache, **settings)

        model.start = with_cache
    return model


def in_precision(model: torch.nn.Module, options: argparse.Namespace) -> torch.nn.Module:
    """A model as `regard.load` opens it; its weights are packed as for many sentences."""
    os.environ["REGARD_NATIVE"] = str(int(not options.parts))
    native.load()
    if options.precision == "int8":
        quantize(model)
    else:
        model = model.to(getattr(torch, options.precision))
        if not options.plain:
            pack(model)
    return model


def make_batches(options: argparse.Namespace) -> list[list[list[int]]]:
    """Sentences without padding, in the batches that are decoded together."""
    if options.sources:
        table = np.load(options.sources)["source"].tolist()
        rows = [[token for token in row if token != PAD] for row in table]
    else:
        random = np.random.default_rng(0)
        lengths = random.normal(14, 5, size=32).round().clip(3, 31).astype(int)
        rows = [[*random.integers(4, PAD, size=n).tolist(), END] for n in sorted(lengths)]
    return [[rows[place]] for place in SINGLES] if options.batch == 1 else [rows]


def decode(model: Transformer, batches: list[list[list[int]]], options: argparse.Namespace) -> int:
    """Decode everything once; how many tokens the best outputs have."""
    spec = DecodingSpec(beam=options.beam, min_length=options.length, max_length=options.length)
    if options.beam == 1:
        spec = DecodingSpec(strategy="greedy", min_length=options.length, max_length=options.length)
    done = 0
    for rows in batches:
        marks = {"start_id": PAD, "end_id": END, "pad_id": PAD}
        found = search_many(model, rows, spec, batch_tokens=10**9, **marks)
        for hypotheses in found:
            assert len(hypotheses[0].tokens) == options.length
            done += options.length
    return done


def window(
    model: Transformer, batches: list[list[list[int]]], options: argparse.Namespace
) -> float:
    """Tokens a second over whole passes."""
    done, start = 0, time.perf_counter()
    while True:
        done += decode(model, batches, options)
        elapsed = time.perf_counter() - start
        if elapsed >= options.seconds:
            return done / elapsed


def profile(
    model: Transformer, batches: list[list[list[int]]], options: argparse.Namespace
) -> None:
    with torch.profiler.profile() as seen:
        decode(model, batches, options)
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


if __name__ == "__main__":
    main()
