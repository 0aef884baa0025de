"""What bfloat16 and int8 cost in perplexity, on trained models; int8 may cost 0.5 %.

    python -m benchmarks.quality.int8 RUN … [--stories DIR] [--threads 1]

Each RUN is scored on its own validation text. DIR holds llama2.c's stories260K.bin and tok512.bin;
its text are stories that it writes itself, in float32, as it was trained on ones that we do not
have. Logits come from the head as in prediction: its products are of int8 too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.report import existing, measured_on, table, write_section

import regard
from regard.interop.runs import read_llama2c, write_run
from regard.load import open_task
from regard.tasks.task import Batches, Examples
from regard.training import validation_loss

PRECISIONS = ("float32", "bfloat16", "int8")
ALLOWED = 0.005
STORIES, LENGTH = 40, 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=existing, nargs="*")
    parser.add_argument("--stories", type=existing)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [row(run.name, run, own_text(run)) for run in options.runs]
    if options.stories is not None:
        with tempfile.TemporaryDirectory() as directory:
            run = Path(directory) / "stories260K"
            write_run(read_llama2c(options.stories), run)
            rows.append(row("stories260K", run, written_by(run)))
    header = ("model", "tokens", "perplexity, float32", "bfloat16", "", "int8", "")
    write_section(
        "int8 and bfloat16: perplexity",
        f"{measured_on()} At most {ALLOWED:+.1%} is asked of int8.\n\n{table(header, rows)}",
    )


def row(name: str, run: Path, text: Batches) -> tuple[str, ...]:
    """A model's perplexities, and how they differ from float32's."""
    found = [perplexity(run, text, precision) for precision in PRECISIONS]
    exact = found[0][0]
    line = [name, f"{found[0][1]:,.0f}", f"{exact:.4f}"]
    for value, _ in found[1:]:
        line += [f"{value:.4f}", f"**{value / exact - 1:+.3%}**"]
    print(*line, flush=True)
    return tuple(line)


def own_text(run: Path) -> Batches:
    """What a run validates with."""
    valid = open_task(run).task.prepare(run, lambda _: None).valid
    assert valid is not None, f"{run} has no validation text"
    return valid


def written_by(run: Path) -> Batches:
    """Stories that a model writes, one after another."""
    writer = regard.load(run, precision="float32")
    texts = [
        writer.generate("", strategy="sample", seed=seed, max_new_tokens=LENGTH)
        for seed in range(STORIES)
    ]
    examples = Examples(texts, texts, [f"story {n}" for n in range(STORIES)], apart=False)
    found: Batches = open_task(run).task.in_memory(examples)
    return found


def perplexity(run: Path, text: Batches, precision: Any) -> tuple[float, float]:
    """Of a token, without label smoothing; and the tokens scored."""
    task, model, _ = open_task(run, precision=precision)
    objective = task.objective()
    batches = (text.micro_batch(0, k) for k in range(text.num_micro_batches(0)))
    tokens = sum(objective.counts(batch)["nll"] for batch in batches)
    with by_head(model):
        return validation_loss(model, objective, text)["perplexity"], tokens


@contextmanager
def by_head(model: torch.nn.Module) -> Iterator[None]:
    """Losses of the head's own logits; else its weight is multiplied in float32."""

    def loss(states: Any, weight: Any, bias: Any, labels: Any, smoothing: float) -> Any:
        logits = model.head(states).float()
        nll = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        return nll, nll

    with (
        patch("regard.objectives.next_token.chunked_loss", loss),
        patch("regard.objectives.cross_entropy.chunked_loss", loss),
    ):
        yield


if __name__ == "__main__":
    main()
