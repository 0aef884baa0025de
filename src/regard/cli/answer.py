"""``regard answer``: questions about a text, answered by a part of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli import options
from regard.errors import InputError

CHUNK = 256
"""Questions answered together: sorted by length inside, written in their order."""


def answer(
    run: options.Run,
    question: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="questions; without any, standard input"),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", help="the text that all questions are about")
    ] = None,
    context_file: Annotated[
        Path | None, typer.Option("-c", "--context-file", help="the same, in a file")
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("-i", "--input", help="file of questions, one a line (- = stdin)")
    ] = None,
    output: options.Output = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="one JSON object a line: question, text, start, end, score"),
    ] = False,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Answer questions about a text by the part of it that holds the answer.

    Without --context each line brings its own text: the question, a tab, the text; or a JSON
    object with question and context. An empty answer says that the text does not answer.

    regard answer runs/qa "Who sleeps?" --context "The old dog sleeps."

    regard answer runs/qa -c article.txt -i questions.txt --json
    """
    from regard.cli.files import numbered, one_line, opened_output, predictor

    if str(context_file) == "-" and not question and input_file in (None, "-"):
        raise InputError("standard input cannot hold the text and the questions")
    about = _context(context, context_file)
    with opened_output(output) as write:
        answerer = predictor(run, "answer", precision, device, checkpoint)
        pairs = (_pair(where, text, about) for where, text in numbered(question, input_file))
        while chunk := list(itertools.islice(pairs, CHUNK)):
            for (asked, _), found in zip(chunk, answerer.answer(chunk), strict=True):
                write(_json(asked, found) if as_json else one_line(found.text))


def _context(text: str | None, file: Path | None) -> str | None:
    """The text that all questions are about, if there is one.

    Raises:
        InputError: it is given twice, or is empty.
        DataError: for a file that is missing, empty or not UTF-8.
    """
    from regard.data import read_lines

    if text is not None and file is not None:
        raise InputError("give --context or --context-file, not both")
    if file is not None:
        text = "\n".join(read_lines(file))
    if text is not None and not text.strip():
        raise InputError("the text is empty", where="--context" if file is None else str(file))
    return text


def _pair(where: str, line: str, context: str | None) -> tuple[str, str]:
    """Question and text of a line.

    Raises:
        InputError: one of them is missing or empty.
    """
    pair = (line, context) if context is not None else _own(where, line)
    for part, name in zip(pair, ("question", "text"), strict=True):
        if not part.strip():
            raise InputError(f"the {name} is empty", where=where)
    return pair


def _own(where: str, line: str) -> tuple[str, str]:
    """Question and text of a line that has both."""
    if line.lstrip().startswith("{"):
        try:
            found: Any = json.loads(line)
            pair = (found["question"], found["context"])
        except (ValueError, KeyError, RecursionError) as error:
            raise InputError(
                "the line is no JSON object with question and context", where=where
            ) from error
        if all(isinstance(part, str) for part in pair):
            return pair
        raise InputError("question and context are texts", where=where)
    question, tab, context = line.partition("\t")
    if not tab:
        raise InputError(
            "a question without a text",
            where=where,
            hint="give --context TEXT or -c FILE; or lines of question, tab, text",
        )
    return question, context


def _json(question: str, found: Any) -> str:
    fields = {"question": question, **vars(found)}
    return json.dumps(fields, ensure_ascii=False)
