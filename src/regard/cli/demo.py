"""``regard demo``: the whole journey on a corpus that regard makes itself."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

PICTURED = 2
"""Which of the showcase sentences is drawn."""


def demo(
    run: Annotated[Path, typer.Option(help="run directory")] = Path("runs/demo"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="change a setting: training.max_steps=200")
    ] = None,
) -> None:
    """Train a small English→German Transformer, score it, translate, and look inside.

    Started again, it goes on where it stopped, or shows the finished run.
    """
    from rich.console import Console

    from regard import workflow
    from regard.cli.progress import duration, listener

    console = Console(soft_wrap=True, highlight=False)  # lines stay whole in a log
    console.rule("[bold]regard demo[/bold]: English to German, from nothing")
    begun = time.monotonic()
    shown, resume = listener(), _begun(run)
    try:
        done = workflow.train(
            "demo", settings, run=run, resume=resume, listeners=[shown], say=console.print
        )
    finally:
        shown.close()
    if done.result is not None and done.result.exit_status:
        console.print("saved; regard demo goes on from here")
        raise typer.Exit(done.result.exit_status)
    did = "went on for" if resume else "trained in"
    console.print(f"{did} {duration(time.monotonic() - begun)}\n")
    _score(console, run)
    translator = _translate(console, run)
    _next(console, run, _draw(translator, run))


def _begun(run: Path) -> bool:
    """Whether an earlier call left something there to go on with."""
    return run.is_dir() and any(not path.name.startswith(".") for path in run.iterdir())


def _score(console: Any, run: Path) -> None:
    from regard import evaluation

    report = evaluation.evaluate(run)
    console.rule("the test: combinations of words that training never had")
    console.print(f"{report.examples:,} sentences translated in {report.seconds:.1f} s")
    for score in report.scores.values():
        console.print(str(score))
    console.print()


def _translate(console: Any, run: Path) -> Any:
    from regard import corpora
    from regard.load import load

    translator = load(run)
    pairs = corpora.showcase("demo")
    console.rule("a few sentences")
    outputs = translator.translate([pair.source for pair in pairs])
    for pair, output in zip(pairs, outputs, strict=True):
        console.print(f"  {pair.source}", style="dim")
        verdict = "[green]✓[/green]" if output == pair.target else "[red]✗[/red]"
        console.print(f"{verdict} {output}")
        if output != pair.target:
            console.print(f"  right: {pair.target}", style="dim")
    console.print()
    return translator


def _draw(translator: Any, run: Path) -> str:
    """Draw one of the sentences, as a page and an image; how to see them."""
    from regard import corpora
    from regard.errors import RegardError
    from regard.look import look

    pair = corpora.showcase("demo")[PICTURED]
    picture = look(translator, pair.source, target=pair.target)
    page = picture.save(run / "attention.html")
    try:
        image = f"{picture.save(run / 'attention.png').name} to print"
    except RegardError as error:  # the page needs no matplotlib
        image = f"no image to print: {error.what}"
    return f"open {page} in a browser ({image})"


def _next(console: Any, run: Path, seen: str) -> None:
    console.rule("what to try next")
    regard = "regard" if shutil.which("regard") else sys.argv[0]  # in an environment not active
    rows = [
        ("see where it looks", seen),
        (
            "translate your own",
            f'{regard} translate {run} "Tomorrow the young doctor reads a book."',
        ),
        ("what it costs", f"{regard} cost {run}"),
        ("your own data", f"{regard} new translation --help"),
        ("other recipes", f"{regard} recipe list"),
    ]
    for what, how in rows:
        console.print(f"[bold]{what:>20}[/bold]  {how}")
