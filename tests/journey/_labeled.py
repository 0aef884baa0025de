"""Small labeled data that a tiny encoder learns in a moment: judgments of films, names in text."""

from __future__ import annotations

import random
from pathlib import Path

GOOD, BAD = ["good", "great", "lovely", "fine"], ["bad", "awful", "dull", "poor"]
FILL = ["the", "film", "was", "very", "quite", "a", "story", "here"]
SIZES = {"train": 160, "valid": 30, "test": 30}

RECIPE = """
[objective]
kind = "classes"

[tokenizer]
kind = "words"

[model]
preset = "tiny"
d_model = 16
num_layers = 1
max_positions = 32
embedding.dropout = 0.0
layer.dropout = 0.0
layer.attention = { num_heads = 2, dropout = 0.0 }
layer.feed_forward.d_ff = 32

[training]
max_steps = 40
batch_size = 20
threads = 1
precision = "float32"
schedule = { peak = 0.02, warmup_steps = 4 }
checkpoint = { every_steps = 20, keep = 3 }
"""


def recipe(task: str, ending: str, metric: str) -> str:
    data = "".join(f'data.{split} = {{ file = "{split}.{ending}" }}\n' for split in SIZES)
    evaluation = f'[evaluation]\nevery_steps = 20\nsamples = 1\nmetric = "{metric}"\n'
    return f'task = "{task}"\n{data}{RECIPE}\n{evaluation}'


def judgments(directory: Path) -> None:
    """Texts with a word that says it all, and a recipe, films.toml."""
    draw = random.Random(1)
    for split, count in SIZES.items():
        rows = ["text\tlabel"]
        for n in range(count):
            words = draw.choices(FILL, k=5)
            words.insert(draw.randrange(6), draw.choice(GOOD if n % 2 else BAD))
            rows.append(f"{' '.join(words)}\t{'pos' if n % 2 else 'neg'}")
        (directory / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    (directory / "films.toml").write_text(recipe("classification", "tsv", "accuracy"))


def names(directory: Path) -> None:
    """Sentences with a person of two words or a place of one, and a recipe, names.toml."""
    draw = random.Random(2)
    for split, count in SIZES.items():
        lines = []
        for n in range(count):
            rows = [f"{word} O" for word in draw.choices(FILL, k=4)]
            first, last = draw.choice(["Anna", "Tom"]), draw.choice(["Jones", "Smith"])
            person = [f"{first} B-person", f"{last} I-person"]
            at = draw.randrange(5)
            rows[at:at] = person if n % 2 else [f"{draw.choice(['Paris', 'Rome'])} B-place"]
            lines += [*rows, ""]
        (directory / f"{split}.conll").write_text("\n".join(lines) + "\n")
    (directory / "names.toml").write_text(recipe("tagging", "conll", "f1"))
