"""``regard merge``: adapters added to the weights they stand beside, as a run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.files import refuse_existing
from regard.errors import InputError


def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run to write; a new directory.")],
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Adapters trained elsewhere beside this run's weights: the model.safetensors of "
            "a checkpoint."
        ),
    ] = None,
) -> None:
    """Make a plain run of one with adapters (`model.adapter`): the same answers, a little faster.

    The first run stays as it is.
    """
    refuse_existing(output)
    said = write_merged(run, output, adapter)
    typer.echo(f"wrote {output}: {said}")
    typer.echo(f"next:  regard evaluate {output}")


def write_merged(run: Path, output: Path, adapter: Path | None = None) -> str:
    """Write the merged run, whole or not at all; says of what it was made.

    Raises:
        RunError, CheckpointError: the run or the file cannot be used.
        InputError: there are no adapters, or two of them.
    """
    from regard.cli.average import write_weights
    from regard.nn.adapters import merge_adapters
    from regard.transfer import load_adapter, plain_model

    model, recipe, weights = plain_model(run)
    if (recipe.adapter is None) == (adapter is None):
        has = "has adapters of its own" if adapter else "has no adapters"
        raise InputError(
            f"this run {has}",
            where=str(run),
            hint="give the run that its adapters were trained beside"
            if adapter
            else "give a run with model.adapter, or --adapter FILE",
        )
    said = f"{run.name} ({weights}) with its adapters merged into its weights"
    if adapter is not None:
        load_adapter(model, adapter)
        merge_adapters(model)
        said = f"{run.name} ({weights}) with the adapters of {adapter} merged into its weights"
    kept = {key: held for key, held in recipe.model.items() if key not in ("adapter", "freeze")}
    plain = recipe.model_copy(update={"model": kept})
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    write_weights(run, output, plain, tensors, state={"merged": said}, said=f"{said}.")
    return said
