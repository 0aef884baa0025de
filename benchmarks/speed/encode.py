"""Time a BERT-base encoder (random weights) on rows of 128 tokens: states of all of them.

Run by hand, or by the peers' ``--versus``: batch as in their job ``encode``. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import torch
from decode import PRECISIONS, in_precision

from regard.models import BERT, BERTConfig
from regard.nn import backend

VOCABULARY, LENGTH = 30_522, 128


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    backend.keep_heap()
    model = in_precision(BERT(BERTConfig.preset("base", vocab_size=VOCABULARY)).eval(), options)
    ids = torch.randint(1000, 30_000, (options.batch, LENGTH))
    with torch.inference_mode():
        for _ in range(options.warmup):
            model(ids)
        rates = [window(model, ids, options.seconds) for _ in range(options.windows)]
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    print(json.dumps({"tokens_per_s": middle, "min": low, "max": high}))


def parse() -> argparse.Namespace:
    environment = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=int(environment("PEERS_BATCH", "32")))
    parser.add_argument("--threads", type=int, default=int(environment("PEERS_THREADS", "2")))
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--plain", action="store_true", help="do not pack the weights")
    parser.add_argument("--parts", action="store_true", help="without the operators in C++")
    parser.add_argument("--warmup", type=int, default=3, help="passes")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="a window lasts at least this")
    return parser.parse_args()


def window(model, ids, seconds: float) -> float:
    """Tokens a second over whole passes."""
    done, start = 0, time.perf_counter()
    while True:
        model(ids)
        done += ids.numel()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


if __name__ == "__main__":
    main()
