"""``regard evaluate``: scores with signature and interval, and whether one run beats another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="the run directory, e.g. runs/demo")],
    source: Annotated[Path | None, typer.Option(help="file of source texts")] = None,
    target: Annotated[Path | None, typer.Option(help="file of references")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="the same in the recipe's words: KEY=FILE")
    ] = None,
    versus: Annotated[
        Path | None, typer.Option(help="another run to compare with, by a paired test")
    ] = None,
    beam: Annotated[int | None, typer.Option(help="hypotheses kept open", min=1)] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32 or bfloat16; default: the recipe's")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Score a run on its test data, or on files given here.

    regard evaluate runs/a --source test.en --target test.de --versus runs/b
    """
    from regard import workflow

    report = workflow.evaluate(
        run,
        _data(source, target, data or []),
        versus=versus,
        beam=beam,
        precision=precision,
        device=device,
    )
    if as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        _print(report)


def _data(source: Path | None, target: Path | None, pairs: list[str]) -> dict[str, Any] | None:
    from regard.errors import InputError

    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"{pair!r} is not KEY=FILE", where="--data")
        found[key] = value
    if source is not None:
        found["source"] = str(source)
    if target is not None:
        found["target"] = str(target)
    return found or None


def _print(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "score", "95 % interval", "signature"):
        table.add_column(title, justify="right" if title in ("score", "95 % interval") else "left")
    for score in report.scores.values():
        low_high = "" if score.interval is None else "{:.1f} – {:.1f}".format(*score.interval)
        table.add_row(score.name, f"{score.value:.2f}", low_high, score.signature)
    console.print(f"{report.examples:,} examples in {report.seconds:.1f} s")
    console.print(table)
    for found in report.comparisons:
        verdict = "significant" if found.significant() else "not significant"
        console.print(
            f"{found.name}: {found.system.value:.2f} against {found.baseline.value:.2f} of "
            f"{report.versus}, difference {found.difference:+.2f}, p = {found.p_value:.3f} "
            f"({verdict} at 0.05)  {found.signature}"
        )
