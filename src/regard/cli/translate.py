"""``regard translate``: text in, translations out, as they become ready."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

CHUNK = 4096
"""Lines translated together: sorted by length inside, written in their order."""


def translate(
    run: Annotated[Path, typer.Argument(help="the run directory, e.g. runs/demo")],
    text: Annotated[
        list[str] | None, typer.Argument(help="texts to translate; without any, standard input")
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("-i", "--input", help="file of texts, one a line (- = stdin)")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="file to write; must not exist")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a text: source, text, score, tokens")
    ] = False,
    beam: Annotated[int | None, typer.Option(help="hypotheses kept open", min=1)] = None,
    nbest: Annotated[int | None, typer.Option(help="translations of each text", min=1)] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="alpha: above 0 longer outputs win more often")
    ] = None,
    length_penalty_kind: Annotated[
        str | None, typer.Option(help="gnmt, ((5+n)/6)^alpha, or power, n^alpha")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="greedy, beam or sample")] = None,
    max_length: Annotated[
        str | None, typer.Option(help='tokens of the longest output: a number or "input+50"')
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="what each translation must begin with")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="sample: below 1 bolder")] = None,
    top_k: Annotated[int | None, typer.Option(help="sample: only the k likeliest")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="sample: the likeliest that reach p together")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="sample: at least p times the likeliest")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="sample: of the random draws")] = None,
    batch_tokens: Annotated[
        int, typer.Option(help="source tokens at once; changes the speed alone", min=1)
    ] = 4096,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32 or bfloat16; default: the recipe's")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """Translate texts given as words, in a file, or on standard input.

    regard translate runs/demo "the old dog sleeps"
    regard translate runs/demo -i news.en -o news.de --beam 8
    """
    from regard.cli.files import opened_output, texts_from
    from regard.load import load

    with opened_output(output) as write:
        translator = load(run, precision=precision, device=device)  # type: ignore[arg-type]
        options: dict[str, Any] = {
            "beam": beam,
            "nbest": nbest,
            "length_penalty": length_penalty,
            "length_penalty_kind": length_penalty_kind,
            "strategy": strategy,
            "max_length": int(max_length) if max_length and max_length.isdigit() else max_length,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "seed": seed,
        }
        for texts in _chunks(texts_from(text, input_file)):
            for source, found in zip(
                texts,
                translator.ranked(texts, prefix=prefix, batch_tokens=batch_tokens, **options),
                strict=True,
            ):
                for one in found:
                    if as_json:
                        write(_line(source, one))
                    else:
                        write(one.text if len(found) == 1 else f"{one.score:.4f}\t{one.text}")


def _line(source: str, one: Any) -> str:
    fields = {"source": source, "text": one.text, "score": one.score, "tokens": list(one.tokens)}
    return json.dumps(fields, ensure_ascii=False)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
