"""``regard generate``: a language model writes on, or text is made of text."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli import options
from regard.cli.files import Write


def generate(
    run: options.Run,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="what each text begins with; without any, the lines of standard input, or nothing",
        ),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("-i", "--input", help="file of prompts, one a line (- = stdin)")
    ] = None,
    output: options.Output = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a line: prompt, text")
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="tokens to write at most; default: 200, or the recipe's", min=1),
    ] = None,
    max_length: Annotated[
        str | None,
        typer.Option(help='text to text: the same limit, or one such as "input+50"'),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="text to text: what stands before each text")
    ] = None,
    beam: options.Beam = None,
    strategy: options.Strategy = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Let a language model write on from a prompt, as it comes, or text to text answer texts.

    regard generate runs/shakespeare "ROMEO:" --max-new-tokens 500

    regard generate runs/t5 --prefix "translate English to German: " "A dog runs."

    regard generate runs/t5 -i long.txt -o short.txt --max-length 60

    regard generate runs/shakespeare --temperature 0.5 --seed 7
    """
    _write(**locals())


def _write(
    *, run: Path, output: Path | None, precision: Any, device: str, checkpoint: str, **given: Any
) -> None:
    """What a run makes of prompts."""
    from regard.cli.files import opened_output, predictor

    with opened_output(output) as write:
        generator = predictor(run, "generate", precision, device, checkpoint)
        if hasattr(generator, "ranked"):  # text to text, whose output is no continuation
            _answer(generator, write, **given)
        else:
            _go_on(generator, write, whole=output is not None, **given)


def _answer(
    writer: Any,
    write: Write,
    *,
    prompt: list[str] | None,
    input_file: str | None,
    as_json: bool,
    max_new_tokens: int | None,
    max_length: str | None,
    prefix: str | None,
    **wanted: Any,
) -> None:
    """Text of texts, many at a time; ``wanted`` is said of its decoding."""
    from regard.cli.files import chunks, notice_prefix, one_line
    from regard.errors import InputError

    if max_new_tokens is not None and max_length is not None:
        raise InputError("give --max-length or --max-new-tokens: both limit the output")
    notice_prefix(prefix, writer.prefixes, writer.prefix)
    wanted |= {"max_length": max_new_tokens or options.length(max_length), "nbest": 1}
    for texts, origins in chunks(prompt, input_file):
        results = writer.ranked(texts, prefix=prefix, origins=origins, **wanted)
        for one, (best,) in zip(texts, results, strict=True):
            write(_json(one, best.text) if as_json else one_line(best.text))


def _go_on(
    generator: Any,
    write: Write,
    *,
    prompt: list[str] | None,
    input_file: str | None,
    as_json: bool,
    max_new_tokens: int | None,
    max_length: str | None,
    prefix: str | None,
    whole: bool,
    **wanted: Any,
) -> None:
    """What follows each prompt, as it comes unless a ``whole`` text is to be written."""
    from regard.errors import InputError

    if prefix is not None:
        raise InputError("a language model reads no prefix: put it into the prompt")
    if max_length is not None:
        raise InputError(
            "a language model has no longest output, it goes on", hint="give --max-new-tokens"
        )
    if max_new_tokens is not None:
        wanted["max_new_tokens"] = max_new_tokens
    for one in _prompts(prompt, input_file):
        if whole or as_json or wanted["beam"] is not None:
            text = generator.generate(one, **wanted)
            write(_json(one, text) if as_json else text)
        else:
            _stream(one, generator.generate(one, stream=True, **wanted))


def _prompts(prompt: list[str] | None, input_file: str | None) -> Iterator[str]:
    """What texts begin with; the empty text where nothing is given."""
    from regard.cli.files import texts_from

    if prompt or input_file:
        return texts_from(prompt, input_file)
    rows = iter(()) if sys.stdin.isatty() else texts_from(None, None)
    return itertools.chain([next(rows, "")], rows)


def _json(prompt: str, text: str) -> str:
    return json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False)


def _stream(prompt: str, pieces: Iterable[str]) -> None:
    """A prompt and what follows, as it comes."""
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
