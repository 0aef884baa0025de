"""Arguments and options that verbs share, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="the run directory, e.g. runs/demo")]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="texts; without any, standard input"),
]
InputFile = Annotated[
    str | None, typer.Option("-i", "--input", help="file of texts, one a line (- = stdin)")
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="file to write; must not exist")
]
BatchTokens = Annotated[
    int, typer.Option(help="source tokens at once; changes the speed alone", min=1)
]
Precision = Annotated[
    str | None, typer.Option(help="auto, float32, bfloat16 or int8; default: the recipe's")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Checkpoint = Annotated[
    str, typer.Option(help="auto (averaged or best, as the recipe says), best, last or a step")
]

# Of decoding; None leaves what the recipe says.
Beam = Annotated[int | None, typer.Option(help="hypotheses kept open", min=1)]
Nbest = Annotated[int | None, typer.Option(help="outputs for each text", min=1)]
LengthPenalty = Annotated[
    float | None, typer.Option(help="alpha: above 0 longer outputs win more often", min=0.0)
]
LengthPenaltyKind = Annotated[
    str | None, typer.Option(help="gnmt, ((5+n)/6)^alpha, or power, n^alpha")
]
Strategy = Annotated[str | None, typer.Option(help="greedy, beam or sample")]
Stop = Annotated[
    str | None,
    typer.Option(help="beam: first (enough are finished), all, bound, present"),
]
MinLength = Annotated[int | None, typer.Option(help="tokens that must stand before the end", min=0)]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="above 1: tokens already written become less likely")
]
MaxLength = Annotated[
    str | None, typer.Option(help='tokens of the longest output: a number or "input+50"')
]


def length(given: str | None) -> int | str | None:
    """A limit as decoding has it: a number where it is one."""
    return int(given) if given and given.isdigit() else given


Prefix = Annotated[
    str | None,
    typer.Option(
        help="what each output must begin with; text to text: what stands before each text and "
        "says the task"
    ),
]
Temperature = Annotated[float | None, typer.Option(help="sample: below 1 more cautious")]
TopK = Annotated[int | None, typer.Option(help="sample: only the k likeliest")]
TopP = Annotated[float | None, typer.Option(help="sample: the likeliest that reach p together")]
MinP = Annotated[float | None, typer.Option(help="sample: at least p times the likeliest")]
Seed = Annotated[int | None, typer.Option(help="sample: of the random draws", min=0)]
