"""``regard import hf|llama2c`` and ``regard export hf``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.files import refuse_existing
from regard.cli.verbs import make_app

import_app = make_app(
    no_args_is_help=True, help="Make a run of weights of the field; nothing in them is executed."
)
export_app = make_app(no_args_is_help=True, help="Write a run as the field reads it.")

NewRun = Annotated[Path, typer.Option("-o", "--output", help="Run to write; a new directory.")]


def _begin(output: Path) -> None:
    """Refuse what is there; make the directories above it."""
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
    refuse_existing(output)


@import_app.callback()
@export_app.callback()
def _formats() -> None:
    """A verb of its own for each format."""


@import_app.command("hf")
def import_hf(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="With config.json and safetensors.")
    ],
    output: NewRun,
) -> None:
    """Import a model as Hugging Face keeps it.

    GPT-2, Llama, BERT, RoBERTa, DistilBERT, Marian, T5, ViT, YOLOS.

    regard import hf gpt2/ -o runs/gpt2
    """
    _begin(output)
    from regard.interop.runs import read_hf, write_run

    found = read_hf(directory)
    write_run(found, output)
    _say(output, found)


@import_app.command()
def llama2c(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The model's .bin, or its directory.")
    ],
    output: NewRun,
) -> None:
    """Import a model of llama2.c, with the tokenizer that lies beside it.

    regard import llama2c stories260K/ -o runs/stories
    """
    _begin(output)
    from regard.interop.runs import read_llama2c, write_run

    found = read_llama2c(path)
    write_run(found, output)
    _say(output, found)


@export_app.command("hf")
def export_hf(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A new directory.")],
) -> None:
    """Write a run's model and tokenizer as Hugging Face reads them.

    regard export hf runs/gpt2 -o gpt2/
    """
    _begin(output)
    from regard.interop.runs import export_hf as export

    for note in export(run, output):
        typer.echo(note)
    typer.echo(f"wrote {output}")


def _say(output: Path, found: object) -> None:
    from regard.interop.runs import Imported, task_of

    assert isinstance(found, Imported)
    for note in found.notes:
        typer.echo(note)
    typer.echo(f"wrote {output}: {found.origin}, a run of {task_of(found)}")
