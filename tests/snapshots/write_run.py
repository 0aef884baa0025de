"""Write a small run in today's format, to be opened for ever: ``python write_run.py run-N``.

Once, when `regard.run.FORMAT` or `regard.training.checkpoints.FORMAT` counts up; a directory that
is there is never written again. ``expected.json`` in it says what the run answers.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import regard
from regard import corpora
from regard.recipe.text import write as text_of

HERE = Path(__file__).parent
TEXTS = ["3 1 4", "2 7 1 8", "", "9 9 9 9 9 9"]
SETTINGS = {
    "task": "translation",
    "data": {
        split: {side: f"{split}.{side}" for side in ("source", "target")}
        for split in ("train", "valid")
    },
    "tokenizer": {"kind": "words"},
    "model": {
        "preset": "tiny",
        "d_model": 8,
        "num_layers": 1,
        "layer": {"attention": {"num_heads": 2}, "feed_forward": {"d_ff": 16}, "dropout": 0.0},
    },
    "objective": {"label_smoothing": 0.0},
    "evaluation": {"every_steps": 400},
    "training": {
        "max_steps": 400,
        "batch_tokens": 400,
        "precision": "float32",
        "threads": 1,
        "ema": 0.9,
        "schedule": {"peak": 0.02, "warmup_steps": 10},
        "checkpoint": {"every_steps": 200, "keep": 2, "average": 2},
    },
}


def main(directory_name: str) -> None:
    target = HERE / directory_name
    if target.exists():
        sys.exit(f"{target} is there: an old run is not written again")
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        splits = corpora.make("copy-digits", size=1000).splits()
        for split, pairs in [("train", splits["train"]), ("valid", splits["valid"])]:
            for side, place in (("source", 0), ("target", 1)):
                text = "".join(pair[place] + "\n" for pair in pairs[:200])
                (made / f"{split}.{side}").write_text(text)
        (made / "small.toml").write_text(text_of(SETTINGS))
        run = regard.train(made / "small.toml", run=made / "run").path
        for unneeded in ("data", "tensorboard"):
            shutil.rmtree(run / unneeded, ignore_errors=True)
        (run / ".lock").unlink()
        found = regard.load(run).ranked(TEXTS, beam=2)
        expected = [{"text": row[0].text, "score": row[0].score} for row in found]
        (run / "expected.json").write_text(
            json.dumps({"texts": TEXTS, "outputs": expected}, indent=1) + "\n"
        )
        processor = json.loads((run / "environment.json").read_text())["processor"]
        for name in ("recipe.toml", "README.md", "environment.json"):  # nothing of this machine
            text = (run / name).read_text().replace(f"{made}/", "").replace(processor, "any")
            (run / name).write_text(text)
        for path in [*made.glob("*.source"), *made.glob("*.target")]:  # so that it can go on
            shutil.copyfile(path, run / path.name)
        shutil.copytree(run, target)


if __name__ == "__main__":
    main(sys.argv[1])
