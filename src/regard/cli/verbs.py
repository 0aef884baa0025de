"""The verbs, in the order of a newcomer's way, and the group that imports them when called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Verb:
    """One verb: ``module:attribute`` (a function, or a `typer.Typer` with verbs of its own)."""

    target: str
    help: str
    panel: str


_START, _TRAIN, _USE, _INSIDE = "Start here", "Train", "Use a trained model", "Look inside"

VERBS: dict[str, Verb] = {
    "demo": Verb("regard.cli.demo:demo", "Train, score and look at a Transformer now.", _START),
    "new": Verb("regard.cli.new:app", "Write a recipe for data of your own.", _START),
    "recipe": Verb("regard.cli.recipe:app", "Built-in recipes and their keys.", _START),
    "check": Verb("regard.cli.check:check", "Try everything a run needs before it starts.", _TRAIN),
    "cost": Verb("regard.cli.cost:cost", "Parameters, FLOPs and memory of a model.", _TRAIN),
    "train": Verb("regard.cli.train:train", "Train what a recipe says.", _TRAIN),
    "runs": Verb("regard.cli.runs:runs", "Runs with their scores; draw their curves.", _TRAIN),
    "average": Verb("regard.cli.average:average", "Average a run's checkpoints.", _TRAIN),
    "merge": Verb("regard.cli.merge:merge", "Merge a run's adapters into its weights.", _TRAIN),
    "translate": Verb("regard.cli.translate:translate", "Translate text.", _USE),
    "generate": Verb("regard.cli.generate:generate", "Let a language model write on.", _USE),
    "summarize": Verb("regard.cli.translate:summarize", "Summarize text.", _USE),
    "chat": Verb("regard.cli.chat:chat", "Talk with a dialogue model.", _USE),
    "classify": Verb("regard.cli.classify:classify", "Say the class of texts or pictures.", _USE),
    "detect": Verb("regard.cli.detect:detect", "Find objects in pictures.", _USE),
    "tag": Verb("regard.cli.tag:tag", "Tag words, find names.", _USE),
    "answer": Verb("regard.cli.answer:answer", "Answer questions about a text.", _USE),
    "fill": Verb("regard.cli.fill:fill", "Guess hidden words of a text.", _USE),
    "predict": Verb("regard.cli.predict:app", "Do what a run was trained for.", _USE),
    "evaluate": Verb("regard.cli.evaluate:evaluate", "Score a run, alone or against one.", _USE),
    "import": Verb("regard.cli.interop:import_app", "Make a run of weights of the field.", _USE),
    "export": Verb("regard.cli.interop:export_app", "Write a run as the field reads it.", _USE),
    "look": Verb("regard.cli.look:look", "Draw what a model attends to.", _INSIDE),
}


def load(name: str) -> Any:
    """The command of a verb; its module is imported here."""
    verb = VERBS[name]
    module, _, attribute = verb.target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        app = make_app()
        app.command(name)(found)
        found = app
    return typer.main.get_command(found)


def make_app(**settings: Any) -> typer.Typer:
    """A `typer.Typer` with the settings that all of them share."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


class Verbs(TyperGroup):
    """A group whose help needs no verb's module."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, verb in VERBS.items():
            self.commands[name] = TyperCommand(
                name, help=verb.help, rich_help_panel=verb.panel, rich_markup_mode="markdown"
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The verb that is called, its module imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in VERBS else command, rest
