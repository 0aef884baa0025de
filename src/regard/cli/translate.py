"""``regard translate``, ``regard summarize``: text in, text out, as it becomes ready."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli import options
from regard.cli.files import one_line


def translate(
    run: options.Run,
    text: options.Texts = None,
    input_file: options.InputFile = None,
    output: options.Output = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a line: source, text, score, tokens")
    ] = False,
    beam: options.Beam = None,
    nbest: options.Nbest = None,
    length_penalty: options.LengthPenalty = None,
    length_penalty_kind: options.LengthPenaltyKind = None,
    strategy: options.Strategy = None,
    stop: options.Stop = None,
    min_length: options.MinLength = None,
    max_length: options.MaxLength = None,
    prefix: options.Prefix = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    batch_tokens: options.BatchTokens = 4096,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
) -> None:
    """Translate texts given as words, in a file, or on standard input.

    regard translate runs/demo "the old dog sleeps"

    regard translate runs/demo -i news.en -o news.de --beam 8
    """
    _write("translate", **locals())


@functools.wraps(translate, assigned=("__annotations__",))
def summarize(**given: Any) -> None:
    """Summarize texts given as words, in a file, or on standard input.

    regard summarize runs/news "…"

    regard summarize runs/t5 --prefix "summarize: " -i long.txt -o short.txt
    """
    _write("summarize", **given)


def _write(
    verb: str,
    *,
    run: Path,
    text: list[str] | None,
    input_file: str | None,
    output: Path | None,
    as_json: bool,
    max_length: str | None,
    prefix: str | None,
    batch_tokens: int,
    precision: Any,
    device: str,
    checkpoint: str,
    **wanted: Any,
) -> None:
    """What a run that has this verb makes of texts; ``wanted`` is said of its decoding."""
    from regard.cli.files import chunks, notice_prefix, opened_output, predictor

    wanted["max_length"] = options.length(max_length)
    with opened_output(output) as write:
        translator = predictor(run, verb, precision, device, checkpoint)
        notice_prefix(
            prefix, getattr(translator, "prefixes", ()), getattr(translator, "prefix", "")
        )
        shape = _shape(translator, wanted, as_json)
        for texts, origins in chunks(text, input_file):
            results = translator.ranked(
                texts, prefix=prefix, batch_tokens=batch_tokens, origins=origins, **wanted
            )
            for source, found in zip(texts, results, strict=True):
                for one in found:
                    write(shape(source, one))


def _shape(translator: Any, wanted: Any, as_json: bool) -> Any:
    """How an output becomes a line: JSON, text, or its score and text where there are several.

    Raises:
        RegardError: for options that cannot be.
    """
    from regard.tasks.generation import with_options

    several = with_options(translator.decoding, wanted).nbest > 1
    return _json if as_json else _scored if several else _plain


def _json(source: str, one: Any) -> str:
    fields = {"source": source, "text": one.text, "score": one.score, "tokens": list(one.tokens)}
    return json.dumps(fields, ensure_ascii=False)


def _scored(source: str, one: Any) -> str:
    return f"{one.score:.4f}\t{one_line(one.text)}"


def _plain(source: str, one: Any) -> str:
    return one_line(one.text)
