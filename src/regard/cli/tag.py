"""``regard tag``: text in, its words with their tags out."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from regard.cli import options


def tag(
    run: options.Run,
    text: options.Texts = None,
    input_file: options.InputFile = None,
    output: options.Output = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a line: text, words, tags, spans")
    ] = False,
    words: Annotated[
        bool, typer.Option("--words", help="the texts are words already, between spaces")
    ] = False,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Tag the words of texts given as words, in a file, or on standard input.

    A line comes out for each text: its words, each with a slash and its tag; those tagged O, which
    belong to no span, stand as they are.

    regard tag runs/names "Maria Jones flew from Paris to New York."

    regard tag runs/names -i news.txt --json
    """
    from regard.cli.files import chunks, opened_output, predictor

    with opened_output(output) as write:
        tagger = predictor(run, "tag", precision, device, checkpoint)
        for texts, _ in chunks(text, input_file):
            given = [one.split() for one in texts] if words else texts
            for one, found in zip(texts, tagger.tag(given), strict=True):
                write(_json(one, found) if as_json else str(found))


def _json(text: str, found: Any) -> str:
    spans = [vars(span) for span in found.spans]
    fields = {"text": text, "words": found.words, "tags": found.tags, "spans": spans}
    return json.dumps(fields, ensure_ascii=False)
