"""``regard generate``: a language model writes on, or text is made of text."""

from __future__ import annotations

import json
import sys
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
    from regard.cli.files import notice_prefix, one_line, opened_output, predictor, texts_from
    from regard.errors import InputError

    wanted: dict[str, Any] = {
        "beam": beam,
        "strategy": strategy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
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
        prompts = texts_from(prompt, input_file) if prompt or input_file else [""]
        for one in prompts:
            if answers or as_json or output is not None or beam is not None:
                text = generator.generate(one, **wanted)
                write(
                    json.dumps({"prompt": one, "text": text}, ensure_ascii=False)
                    if as_json
                    else one_line(text)
                    if answers
                    else text
                )
                continue
            pieces = generator.generate(one, stream=True, **wanted)
            sys.stdout.write(one)
            for piece in pieces:
                sys.stdout.write(piece)
                sys.stdout.flush()
            sys.stdout.write("\n")
