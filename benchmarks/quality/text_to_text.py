"""Text to text by a tiny T5: beside the original family on Multi30k, and summaries of SciTLDR.

    python -m benchmarks.quality.text_to_text --data DIR --runs DIR [--threads 2]
        [--parts translation summaries] [--steps 3000]

``--data`` holds ``multi30k/raw/`` and ``summ_scitldr_a/``. Translation is trained by the recipes
`multi30k-text-to-text` and `multi30k-en-de`, at equal steps of one micro-batch, each with its
family's optimizer; the original's rate rises for a third of the steps, to a peak that suits so
small a batch. Summaries are trained twice, from random weights and after `scitldr-spans` on the
abstracts of the same training papers. A run that is there is gone on with.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.runs import scored
from benchmarks.report import existing, measured_on, table, write_section

NAMES = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
PARTS = {"train": "train", "valid": "dev", "test": "test"}
ROUGE = ("rouge1", "rouge2", "rougeL")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--parts", nargs="+", choices=PARTS_OF, default=list(PARTS_OF))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3000, help="of translation")
    options = parser.parse_args()
    for part in options.parts:
        PARTS_OF[part](options)


def translation(options: argparse.Namespace) -> None:
    """Both families at equal steps."""
    raw = options.data / "multi30k" / "raw"
    settings = [
        f"data.{split}.{side}={raw / f'{name}.{language}.gz'}"
        for split, name in NAMES.items()
        for side, language in (("source", "en"), ("target", "de"))
    ]
    settings += [f"training.threads={options.threads}", f"training.max_steps={options.steps}"]
    settings += ["training.accumulate=1"]
    own = {
        "multi30k-en-de": [
            f"training.schedule.warmup_steps={options.steps // 3}",
            "training.schedule.peak=0.002",
        ],
        "multi30k-text-to-text": [],
    }
    found = {
        name: scored(name, [*settings, *more], options.runs / name, ("bleu", "chrf"))
        for name, more in own.items()
    }
    rows = [
        (f"`{name}`", *sizes(one), f"**{one['bleu']:.2f}**", f"{one['chrf']:.2f}")
        for name, one in found.items()
    ]
    header = ("recipe", "parameters", "steps", "minutes of steps", "test2016 BLEU", "chrF")
    original, other = found.values()
    apart = other["bleu"] - original["bleu"]
    body = f"{table(header, rows)}\n\nText to text is {apart:+.2f} BLEU from the original family."
    write_section("Multi30k by text to text", f"{said(options)}\n\n{body}")


def summaries(options: argparse.Namespace) -> None:
    """SciTLDR from random weights, and after spans of its abstracts."""
    files = {
        part: options.data / "summ_scitldr_a" / f"{name}.jsonl.gz" for part, name in PARTS.items()
    }
    threads = f"training.threads={options.threads}"
    spans = options.runs / "scitldr-spans"
    texts = {
        part: str(abstracts(files[part], options.runs / f"scitldr-{part}.txt"))
        for part in ("train", "valid")
    }
    blocks = [f"data.{part}.file={path}" for part, path in texts.items()]
    held = {"file": texts["valid"]}
    before = scored("scitldr-spans", [*blocks, threads], spans, ("exact_spans",), held)
    settings = [*(f"data.{part}.file={path}" for part, path in files.items()), threads]
    ways = {"random weights": [], "spans of the same abstracts": [f"model.start_from={spans}"]}
    rows = []
    for way, more in ways.items():
        name = "scitldr-after-spans" if more else "scitldr"
        one = scored("scitldr", [*settings, *more], options.runs / name, ROUGE)
        rows.append((way, *sizes(one), *(f"**{one[score]:.2f}**" for score in ROUGE)))
    header = ("from", "parameters", "steps", "minutes of steps", "ROUGE-1", "ROUGE-2", "ROUGE-L")
    spoken = (
        f"`scitldr-spans`: {before['steps']:,} steps, {before['minutes']:.0f} minutes; of "
        f"the validation abstracts' spans {before['exact_spans']:.1f} % are filled in exactly."
    )
    write_section("SciTLDR", f"{said(options)}\n\n{table(header, rows)}\n\n{spoken}")


def abstracts(path: Path, output: Path) -> Path:
    """The abstracts of a part, one a line."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        papers = [json.loads(line) for line in lines]
    texts = [" ".join(" ".join(paper["source"]).split()) for paper in papers]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return output


def sizes(found: dict[str, Any]) -> Sequence[str]:
    return f"{found['parameters']:,}", f"{found['steps']:,}", f"{found['minutes']:.1f}"


def said(options: argparse.Namespace) -> str:
    return f"{measured_on(options.threads)} Seed 1."


PARTS_OF = {"translation": translation, "summaries": summaries}


if __name__ == "__main__":
    main()
