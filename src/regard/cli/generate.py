"""``regard generate``: a language model writes on, or text is made of text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli import options


def generate(
    run: options.Run,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="what each text begins with; may be left out"),
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

    regard generate runs/shakespeare --temperature 0.5 --seed 7
    """
    _write(**locals())


def _write(
    *,
    run: Path,
    prompt: list[str] | None,
    input_file: str | None,
    output: Path | None,
    as_json: bool,
    max_new_tokens: int | None,
    prefix: str | None,
    precision: Any,
    device: str,
    checkpoint: str,
    **wanted: Any,
) -> None:
    """What a run makes of prompts; ``wanted`` is said of its decoding."""
    from regard.cli.files import notice_prefix, one_line, opened_output, predictor, texts_from
    from regard.errors import InputError

    if max_new_tokens is not None:
        wanted["max_new_tokens"] = max_new_tokens
    with opened_output(output) as write:
        generator = predictor(run, "generate", precision, device, checkpoint)
        answers = hasattr(generator, "ranked")  # text to text, whose output is no continuation
        notice_prefix(prefix, getattr(generator, "prefixes", ()))
        if prefix is not None:
            if not answers:
                raise InputError("a language model reads no prefix: put it into the prompt")
            wanted["prefix"] = prefix
        whole = answers or as_json or output is not None or wanted["beam"] is not None
        for one in texts_from(prompt, input_file) if prompt or input_file else [""]:
            if not whole:
                _stream(one, generator.generate(one, stream=True, **wanted))
                continue
            text = generator.generate(one, **wanted)
            if as_json:
                text = json.dumps({"prompt": one, "text": text}, ensure_ascii=False)
            write(one_line(text) if answers and not as_json else text)


def _stream(prompt: str, pieces: Iterable[str]) -> None:
    """A prompt and what follows, as it comes."""
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
