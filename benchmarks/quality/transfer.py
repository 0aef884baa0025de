"""What pre-training is worth: masked language modeling on plain text, then SST-2 and WNUT-17.

    python -m benchmarks.quality.transfer --data DIR --runs DIR [--seeds 1 2 3] [--score-only]

``--data`` holds ``glue/sst2`` and ``ner_wnut17`` as published, and the other texts of `TEXTS`. One
encoder (BERT-Tiny's shape) is pre-trained on their training parts without labels; each task is then
trained with 100, 1,000 and all labels, from those weights and from the same first random ones under
the same tokenizer and settings. Scores are those of the last step, so nothing is chosen on the
development sets. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.report import existing, measured_on, table, write_section

import regard
from regard.run import Run

HERE = Path(__file__).parent
TEXTS = {
    "glue/sst2/train.tsv.gz": ("sentence",),
    "glue/mrpc/train.tsv.gz": ("#1 String", "#2 String"),
    "glue/rte/train.tsv.gz": ("sentence1", "sentence2"),
    "glue/cola/in_domain_train.tsv.gz": (3,),
}
SIZES = (100, 1_000, None)
SHORTEST = 5
"""Words: shorter lines teach little."""

PRETRAINING: dict[str, Any] = {
    "task": "masked-language-modeling",
    "data": {"max_length": 64},
    "tokenizer": {"kind": "wordpiece", "vocab_size": 8000},
    "model": {"preset": "tiny", "positions": "rotary"},
    "objective": {"kind": "masked_lm"},
    "training": {
        "batch_tokens": 4096,
        "clip_norm": 1.0,
        "optimizer": {"kind": "adamw", "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01},
        "schedule": {"kind": "linear", "peak": 2e-3, "warmup_steps": 500},
        "checkpoint": {"every_steps": 1000, "keep": 1},
    },
    "evaluation": {"every_steps": 1000, "samples": 0},
}
TUNING: dict[str, Any] = {
    "training": {
        "clip_norm": 1.0,
        "optimizer": {"kind": "adamw", "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.01},
        "schedule": {"kind": "linear", "peak": 1e-3, "warmup_steps": 50},
        "checkpoint": {"keep": 1},
    },
    "objective": {"kind": "classes"},
    "evaluation": {"samples": 0},
}
LENGTHS: dict[str, dict[int | None, dict[str, Any]]] = {
    "sst2": {
        100: {"max_steps": 400, "batch_size": 16},
        1_000: {"max_steps": 600, "batch_size": 16},
        None: {"max_epochs": 3, "batch_tokens": 2048},
    },
    "wnut17": {
        100: {"max_steps": 400, "batch_size": 16},
        1_000: {"max_steps": 1200, "batch_size": 16},
        None: {"max_epochs": 15, "batch_tokens": 1024},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=existing, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10_000, help="of pre-training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", default=list(LENGTHS), choices=LENGTHS)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--score-only", action="store_true")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if not options.score_only:
        starts = pretrain(options)
        for task, size, seed, start in _plan(options.seeds, options.tasks):
            tune(options, task, size, seed, start, starts[start])
    write(options)


def _plan(seeds: Sequence[int], tasks: Sequence[str]) -> Iterator[tuple[str, int | None, int, str]]:
    for size in SIZES:
        for seed in seeds:
            for task in tasks:
                for start in ("pretrained", "scratch"):
                    yield task, size, seed, start


def pretrain(options: argparse.Namespace) -> dict[str, Path]:
    """The pre-trained run, and one that has only begun: the same tokenizer and first weights."""
    files = {}
    lines = list(_lines(options.data))
    random.Random(0).shuffle(lines)
    for split, part in {"valid": lines[:1000], "train": lines[1000:]}.items():
        files[split] = options.runs / f"text.{split}.txt"
        files[split].write_text("\n".join(part) + "\n", encoding="utf-8")
    starts = {}
    lengths = {"pretrained": (options.steps, 2e-3), "scratch": (1, 1e-12)}
    for name, (steps, peak) in lengths.items():
        starts[name] = options.runs / name
        changes = {f"data.{split}.file": str(path) for split, path in files.items()}
        more = {
            "training.max_steps": steps,
            "training.schedule.peak": peak,
            "training.threads": options.threads,
        }
        recipe = regard.Recipe.from_settings(PRETRAINING, {**changes, **more})
        regard.train(recipe, run=starts[name], resume=True, say=print)
    return starts


def _lines(data: Path) -> Iterator[str]:
    """Lines of the training parts, each once, without their labels."""
    seen = set()
    for name, fields in TEXTS.items():
        rows = [row.split("\t") for row in _read(data / name)]
        header = rows[0]
        places = [header.index(field) if isinstance(field, str) else field for field in fields]
        for row in rows[1:] if isinstance(fields[0], str) else rows:
            seen.update(row[place] for place in places if place < len(row))
    seen.update(_read(data / "multi30k/raw/train.en.gz"))
    for sentence in _sentences(data / "ner_wnut17/wnut17train.conll.gz"):
        seen.add(" ".join(line.split("\t")[0] for line in sentence))
    for line in _read(data / "dialog/sgd_train_001-030.jsonl.gz"):
        seen.update(text for _, text in json.loads(line)["turns"])
    yield from sorted(line for line in seen if len(line.split()) >= SHORTEST)


def _read(path: Path) -> list[str]:
    """The lines of a packed file."""
    return gzip.decompress(path.read_bytes()).decode("utf-8").rstrip("\n").split("\n")


def _sentences(path: Path) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in _read(path):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [sentence for sentence in found if sentence]


def tune(
    options: argparse.Namespace, task: str, size: int | None, seed: int, start: str, run: Path
) -> None:
    """One run of a task, scored."""
    place = options.runs / f"{task}-{size or 'all'}-{start}-{seed}"
    result = place.with_suffix(".json")
    if result.exists():
        return
    train, valid, test = _labeled(options, task, size, seed)
    recipe = {
        "task": "classification" if task == "sst2" else "tagging",
        "data": {"train": train, "valid": valid, "max_length": 64 if task == "sst2" else 128},
        "model": {"start_from": str(run)},
    }
    changes = {
        **{f"training.{key}": value for key, value in LENGTHS[task][size].items()},
        "training.seed": seed,
        "training.threads": options.threads,
        "evaluation.every_epochs": 1000,
        "training.checkpoint.every_epochs": 1000,
    }
    from regard.spec import merge

    loaded = regard.Recipe.from_settings(merge(TUNING, recipe), changes)
    begun = time.perf_counter()
    regard.train(loaded, run=place, resume=True)
    seconds = time.perf_counter() - begun
    scores = {
        name: {
            key: score.value
            for key, score in regard.evaluate(place, data, checkpoint="last").scores.items()
        }
        for name, data in (("dev", valid), ("test", test))
    }
    found = {"scores": scores, "seconds": seconds}
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(place.name, scores, flush=True)


def _labeled(options: argparse.Namespace, task: str, size: int | None, seed: int) -> Any:
    """Train, development and test data; of the first so many examples, drawn by the seed."""
    if task == "sst2":
        fields = {"text": "sentence", "label": "label"}
        paths = [
            options.data / "glue/sst2" / f"{split}.tsv.gz" for split in ("train", "dev", "test")
        ]
    else:
        fields = {}
        names = ("wnut17train.conll.gz", "emerging.dev.conll.gz", "emerging.test.annotated.gz")
        paths = [options.data / "ner_wnut17" / name for name in names]
    if size is not None:
        few = options.runs / f"{task}-{size}-{seed}.{'tsv' if fields else 'conll'}"
        whole = _read(paths[0])
        if task == "sst2":
            rows = random.Random(seed).sample(whole[1:], size)
            few.write_text("\n".join([whole[0], *rows]) + "\n", encoding="utf-8")
        else:
            sentences = _with_every_tag(_sentences(paths[0]), size, seed)
            few.write_text("\n\n".join("\n".join(s) for s in sentences) + "\n", encoding="utf-8")
        paths[0] = few
    given = {"fields": fields} if fields else {}
    return [{"file": str(path), **given} for path in paths]


def _with_every_tag(sentences: list[list[str]], size: int, seed: int) -> list[list[str]]:
    """So many sentences, drawn by the seed; those come first that bring a new tag."""
    random.Random(seed).shuffle(sentences)
    seen: set[str] = set()
    first, rest = [], []
    for sentence in sentences:
        tags = {line.split("\t")[1] for line in sentence}
        (rest if tags <= seen else first).append(sentence)
        seen |= tags
    return [*first, *rest][:size]


def write(options: argparse.Namespace) -> None:
    """The section of RESULTS.md, and the picture."""
    metrics = {"sst2": ("dev", "accuracy"), "wnut17": ("test", "f1")}
    rows, drawn = [], {}
    for task, (split, metric) in metrics.items():
        for size in SIZES:
            cells = [f"{task}, {split} {metric}", "all" if size is None else f"{size:,}"]
            for start in ("scratch", "pretrained"):
                values = []
                for seed in options.seeds:
                    path = options.runs / f"{task}-{size or 'all'}-{start}-{seed}.json"
                    if path.exists():
                        values.append(json.loads(path.read_text())["scores"][split][metric])
                spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
                cells.append(f"{mean(values):.1f}{spread}" if values else "-")
                drawn[task, size, start] = values
            rows.append(cells)
    draw(drawn, HERE / "transfer.png")
    header = ("task", "labels", "from scratch", "pre-trained")
    steps = [
        e for e in Run.open(options.runs / "pretrained").metrics() if e["event"] == "evaluation"
    ]
    last = steps[-1]
    text = (
        f"{measured_on()}\n\nBERT-Tiny's shape with rotary positions, 8,000 pieces;"
        f" {last['step']:,} steps of 4,096 tokens of masked language modeling on the training"
        " texts of SST-2, MRPC, RTE, CoLA, WNUT-17, Multi30k (English) and Schema-Guided"
        f" Dialogue, without labels (validation loss {last['scores']['loss']:.3f})."
        f" Mean and standard deviation of {len(options.seeds)} seeds; the last step's weights."
        f"\n\n{table(header, rows)}\n\n"
        "![transfer](quality/transfer.png)"
    )
    write_section("What pre-training is worth", text)


def draw(found: dict[Any, list[float]], path: Path) -> None:
    """A panel a task, a line a start, every seed a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    titles = {"sst2": "SST-2, accuracy (dev)", "wnut17": "WNUT-17, span F1 (test)"}
    for panel, (task, title) in zip(panels, titles.items(), strict=True):
        for start, color in (("scratch", "#8a8f98"), ("pretrained", "#1f6feb")):
            rows = [found[task, size, start] for size in SIZES]
            means = [mean(row) if row else float("nan") for row in rows]
            panel.plot(range(len(SIZES)), means, color=color, marker="o", label=start)
            for place, row in enumerate(rows):
                panel.plot([place] * len(row), row, ".", color=color, alpha=0.5)
        panel.set_xticks(range(len(SIZES)), ["100", "1,000", "all"])
        panel.set_xlabel("labels")
        panel.set_title(title, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
