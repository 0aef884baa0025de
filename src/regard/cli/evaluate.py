"""``regard evaluate``: scores with signature and interval, and whether one run beats another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli import options


def evaluate(
    run: options.Run,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=FILE", help="further files of --data")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="file of source texts")] = None,
    target: Annotated[Path | None, typer.Option(help="file of references")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="the same in the recipe's words: KEY=FILE")
    ] = None,
    versus: Annotated[
        Path | None, typer.Option(help="another run to compare with, by a paired test")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="text to text: what stands before each source")
    ] = None,
    beam: options.Beam = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    checkpoint: options.Checkpoint = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Score a run on its test data, or on files given here.

    regard evaluate runs/a --source test.en --target test.de --versus runs/b

    regard evaluate runs/a --data file=test.tsv fields.source=en fields.target=de

    regard evaluate runs/photos --data file=photos/test broken=skip

    regard evaluate runs/t5 --source a.en --target a.de --prefix "translate English to German: "
    """
    if more and not data:
        raise typer.BadParameter(f"unexpected {more[0]!r}: files follow --data, --source, --target")
    from regard import evaluation

    given = _data(source, target, [*(data or []), *(more or [])])
    _notice(run, given, prefix)
    report = evaluation.evaluate(
        run,
        given,
        versus=versus,
        beam=beam,
        prefix=prefix,
        precision=precision,
        device=device,
        checkpoint=checkpoint,
    )
    if as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        _print(report)


def _notice(run: Path, given: dict[str, Any] | None, prefix: str | None) -> None:
    """Say so where the task of data is missing or unknown."""
    from regard.cli.files import notice_prefix
    from regard.recipe import Recipe
    from regard.run import Run

    recipe = Recipe.load(Run.open(run).path, settled=True)
    mixture = recipe.mixture or ()
    if given is None and mixture:
        return  # each part of its test data has its own
    said = (given or {}).get("prefix") if prefix is None else prefix
    notice_prefix(said, [one.prefix for one in mixture], recipe.data.prefix or "")


def _data(source: Path | None, target: Path | None, pairs: list[str]) -> dict[str, Any] | None:
    from regard.errors import InputError
    from regard.recipe.text import value
    from regard.spec import merge, nest

    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, given = pair.partition("=")
        if not separator:
            raise InputError(f"{pair!r} is not KEY=FILE", where="--data")
        typed = key.split(".")[0] == "fields"
        found = merge(found, nest({key: value(given) if typed else given}))
    if source is not None:
        found["source"] = str(source)
    if target is not None:
        found["target"] = str(target)
    return found or None


def _interval(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}".replace("-0.0", "0.0")


def _print(report: Any) -> None:
    from regard.cli.output import console, print_table

    say = console().print
    say(f"{report.examples:,} examples in {report.seconds:.1f} s; weights: {report.weights}")
    if report.left_out:
        say(f"left out: {report.left_out:,} broken")
    rows = []
    for score in report.scores.values():
        low_high = "-" if score.interval is None else _interval(*score.interval)
        rows.append((score.name, f"{score.value:.2f}", low_high))
    print_table(("", "score", "95 % interval"), rows)
    for score in report.scores.values():  # never broken: they are copied into papers
        if score.signature:
            say(f"{score.name}: {score.signature}", soft_wrap=True)
    if not report.comparisons:
        for name, theirs in report.versus_scores.items():
            ours = report.scores[name]
            say(
                f"{ours.name}: {ours.value:.4f} against {theirs.value:.4f} of {report.versus}, "
                f"difference {ours.value - theirs.value:+.4f} (one figure of the whole: no test)"
            )
    for found in report.comparisons:
        verdict = "significant" if found.significant() else "not significant"
        say(
            f"{found.name}: {found.system.value:.2f} against {found.baseline.value:.2f} of "
            f"{report.versus}, difference {found.difference:+.2f}, p = {found.p_value:.3f} "
            f"({verdict} at 0.05)  {found.signature}"
        )
