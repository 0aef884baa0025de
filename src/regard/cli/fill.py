"""``regard fill``: hidden words of a text, guessed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from regard.cli import options


def fill(
    run: options.Run,
    text: options.Texts = None,
    input_file: options.InputFile = None,
    output: options.Output = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a line: source, text, masks")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(help="guesses of each mask; without --json a line of them a mask", min=1),
    ] = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Guess what stands behind each <mask> of a text, by an encoder that learned to.

    A mask stands for one token: a word, or a piece of one.

    regard fill runs/bert "the old <mask> sleeps" --top 5
    """
    from regard.cli.files import at, numbered, one_line, opened_output, predictor
    from regard.tasks.filler import TOP

    with opened_output(output) as write:
        filler = predictor(run, "fill", precision, device, checkpoint)
        for where, one in numbered(text, input_file):
            with at(where):
                found = filler.fill(one, top=top or TOP)
            if as_json:
                write(_json(one, found))
                continue
            write(one_line(found.text))
            for guesses in found.masks if top is not None else ():
                write("  " + "  ".join(f"{one.token} {one.probability:.3f}" for one in guesses))


def _json(source: str, found: Any) -> str:
    masks = [[vars(guess) for guess in guesses] for guesses in found.masks]
    return json.dumps({"source": source, "text": found.text, "masks": masks}, ensure_ascii=False)
