"""``regard classify``: texts, pairs or pictures in, their classes out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from regard.cli import options
from regard.errors import DataError, InputError


def classify(
    run: options.Run,
    text: options.Texts = None,
    input_file: options.InputFile = None,
    output: options.Output = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="one JSON object a line: text (or picture), label and probabilities (labels, "
            "where any number of them can hold; value, for a number)",
        ),
    ] = False,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Say the class of texts given as words, in a file, or on standard input; a label a line.

    Where the model reads pairs, a TAB stands between the two texts; of pictures give their paths.
    A picture that cannot be read is named, its line stays empty, and the status is 2 at the end.

    regard classify runs/reviews "a great film"

    regard classify runs/reviews -i reviews.txt -o labels.txt

    regard classify runs/cifar10 dog.jpg cat.png

    printf 'It rains.\\tThe sun shines.\\n' | regard classify runs/entailment --json
    """
    from regard.cli.files import BadPictures, chunks, opened_output, predictor

    bad = BadPictures()
    with opened_output(output) as write:
        classifier = predictor(run, "classify", precision, device, checkpoint)
        pictures = classifier.reads == "picture"
        for texts, origins in chunks(text, input_file, paths=pictures):
            if pictures:
                rows, answers = texts, _answers(classifier, texts)
            else:
                pairs = zip(texts, origins, strict=True)
                rows = [_row(one, origin, classifier.sides) for one, origin in pairs]
                answers = classifier.classify(rows)
            for row, found in zip(rows, answers, strict=True):
                if isinstance(found, Exception):
                    write(bad.line(row, found, as_json))
                else:
                    write(_json(row, found, classifier.reads) if as_json else str(found))
    bad.complain()


def _answers(classifier: Any, pictures: Sequence[str]) -> list[Any]:
    """The answer to each picture, or the error of one that is broken or not there."""
    try:
        return list(classifier.classify(pictures))
    except (DataError, InputError) as error:
        if len(pictures) == 1:
            return [error]
    middle = len(pictures) // 2  # where one of many is, a few calls more tell
    return _answers(classifier, pictures[:middle]) + _answers(classifier, pictures[middle:])


def _row(line: str, origin: str, sides: int | None) -> Any:
    """A text, or the pair in a line.

    Raises:
        InputError: the line is not what the model reads.
    """
    parts = tuple(line.split("\t"))
    if len(parts) != (sides or min(len(parts), 2)):
        wanted = "pairs of texts, with a TAB between" if sides == 2 else "one text a line"
        hint = "write TEXT, a TAB, and the other TEXT" if sides == 2 else "put spaces for TABs"
        found = f"here are {len(parts) - 1} TAB(s)"
        raise InputError(f"the model reads {wanted}; {found}", where=origin, hint=hint)
    return parts if len(parts) == 2 else parts[0]


def _json(row: Any, found: Any, reads: str) -> str:
    """What was read and what was answered; of a class its probability is among the others."""
    text, *pair = (row,) if isinstance(row, str) else row
    answered = {key: value for key, value in vars(found).items() if key != "probability"}
    read = {reads: text, **({"pair": pair[0]} if pair else {})}
    return json.dumps({**read, **answered}, ensure_ascii=False)
