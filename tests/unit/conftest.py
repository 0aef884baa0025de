"""A recipe that trains in a moment, for what stands above the tasks."""

import pytest

RECIPE = """\
task = "translation"
data.train = { source = "train.source", target = "train.target" }
data.valid = { source = "valid.source", target = "valid.target" }
tokenizer.kind = "words"
model.preset = "tiny"
model.d_model = 8
model.num_layers = 1
model.layer.attention.num_heads = 2
model.layer.feed_forward.d_ff = 16
training.max_steps = 2
training.batch_tokens = 100
training.threads = 1
training.precision = "float32"
training.schedule.warmup_steps = 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: a recipe, tiny.toml, and its few pairs."""
    for split, lines in {"train": 12, "valid": 3}.items():
        for side in ("source", "target"):
            text = "".join(f"{n} {n + 1}\n" for n in range(lines))
            (tmp_path / f"{split}.{side}").write_text(text)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path
