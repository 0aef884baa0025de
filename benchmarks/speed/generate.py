"""Time greedy generation of a GPT-2 (124M shape): new tokens after a prompt, with the cache.

Run by hand, or by the peers' ``--versus``: prompt length, new tokens and batch as in their job
``generate``; the weights are random, the end of a text is forbidden, and the time of the prompt
counts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import torch
from decode import PRECISIONS, in_precision

from regard.decoding import DecodingSpec, Request, continue_from
from regard.models import GPT, GPTConfig
from regard.nn import backend

VOCABULARY, END = 50_257, 50_256


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if not options.give_back:
        backend.keep_heap()
    model = in_precision(GPT(GPTConfig.preset("gpt2", vocab_size=VOCABULARY)).eval(), options)
    prompts = torch.randint(VOCABULARY - 1, (options.batch, options.prompt))
    spec = DecodingSpec(strategy="greedy")
    request = Request(
        end_id=END,
        limits=[options.length] * options.batch,
        prefixes=[[]] * options.batch,
        indices=list(range(options.batch)),
        forbidden=(END,),
    )
    rates = []
    for _ in range(1 + options.windows):
        begun = time.perf_counter()
        with torch.inference_mode():
            state = model.start(options.batch, width=1)
            found = continue_from(model, state, prompts, spec, request)
        tokens = sum(len(row[0].tokens) for row in found)
        assert tokens == options.batch * options.length, tokens
        rates.append(tokens / (time.perf_counter() - begun))
    rates = rates[1:]
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    print(json.dumps({"tokens_per_s": middle, "min": low, "max": high}))


def parse() -> argparse.Namespace:
    environment = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=int(environment("PEERS_BATCH", "1")))
    parser.add_argument("--prompt", type=int, default=int(environment("PEERS_PROMPT", "128")))
    parser.add_argument("--length", type=int, default=int(environment("PEERS_LENGTH", "128")))
    parser.add_argument("--threads", type=int, default=int(environment("PEERS_THREADS", "2")))
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--plain", action="store_true", help="do not pack the weights")
    parser.add_argument("--parts", action="store_true", help="without the operators in C++")
    parser.add_argument("--give-back", action="store_true", help="leave the heap as it is")
    parser.add_argument("--windows", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
