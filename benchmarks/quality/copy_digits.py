"""copy-digits: a check of a machine in a few minutes; perplexity ≤ 1.02 and BLEU ≥ 98 are asked.

python -m benchmarks.quality.copy_digits [--run DIR]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.report import measured_on, table, write_section

import regard
from regard.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/copy-digits"))
    options = parser.parse_args()
    begun = time.perf_counter()
    regard.train("copy-digits", run=options.run, resume=True, say=print)
    minutes = (time.perf_counter() - begun) / 60
    evaluations = [e for e in Run.open(options.run).metrics() if e["event"] == "evaluation"]
    best = [line for line in evaluations if line["best"]][-1]
    report = regard.evaluate(options.run)
    row = (
        best["step"],
        f"{best['scores']['perplexity']:.4f}",
        f"{report.scores['bleu'].value:.2f}",
        f"{report.scores['exact_match'].value:.1f}",
        f"{minutes:.1f}",
    )
    header = ("updates", "dev perplexity", "test BLEU", "exact match %", "minutes")
    signature = report.scores["bleu"].signature
    write_section("copy-digits", f"{measured_on()}\n\n{table(header, [row])}\n\n`{signature}`")


if __name__ == "__main__":
    main()
