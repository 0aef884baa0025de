"""Train from Python and use what comes out:

python examples/train.py train.en train.de valid.en valid.de runs/mine [training.max_steps=500 …]
"""

import sys

import regard
from regard.training.events import Evaluated, Event

train_source, train_target, valid_source, valid_target, run, *settings = sys.argv[1:]
recipe = regard.Recipe.from_settings(
    {
        "task": "translation",
        "data": {
            "train": {"source": train_source, "target": train_target},
            "valid": {"source": valid_source, "target": valid_target},
        },
        "tokenizer": {"vocab_size": 1000},
        "model": {"preset": "tiny", "layer": {"dropout": 0.3}},
        "training": {"max_steps": 2000, "schedule": {"peak": 0.002, "warmup_steps": 400}},
        "evaluation": {"every_steps": 200},
    },
    settings,
)


def watch(event: Event) -> None:
    """Every event of the loop comes by here."""
    if isinstance(event, Evaluated):
        print(f"after step {event.step}: perplexity {event.scores['perplexity']:.1f}")


trained = regard.train(recipe, run=run, listeners=[watch])
translator = regard.load(trained.path)
with open(valid_source, encoding="utf-8") as file:
    text = file.readline().strip()
print(f"{text!r} became {translator.translate(text)!r}")
