"""Tasks of a text encoder on tiny models with random weights, opened as runs are."""

import torch

from regard.data import train_tokenizer
from regard.data.codecs import Labels
from regard.models.bert import BERT
from regard.recipe import Recipe
from regard.registry import task as find_task
from regard.tasks.labels import LABELS

SIZES = {
    "preset": "tiny",
    "d_model": 16,
    "max_positions": 16,
    "layer": {"attention": {"num_heads": 2}, "feed_forward": {"d_ff": 24}},
}
TEXTS = ["the small house stands near the old river", "a large green house"]


def opened(directory, name, labels=(), *, objective="classes", data=None, **model):
    """A task with its run's tokenizer and labels, and a model with weights that matter."""
    recipe = Recipe.from_settings(
        {
            "task": name,
            "data": data or {"train": {"file": "train.tsv"}},
            "model": {**SIZES, **model},
            "objective": {"kind": objective},
            "training": {"max_steps": 1},
        }
    )
    train_tokenizer("wordpiece", TEXTS * 2, vocab_size=60).save(directory / "tokenizer.json")
    if labels:
        Labels(labels).save(directory / LABELS)
    task = find_task(name)(recipe)
    task.open(directory)
    torch.manual_seed(3)
    made = BERT(recipe.model_config_for(task.model_settings())).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return task, made
