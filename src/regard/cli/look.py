"""``regard look``: pictures of what a trained model attends to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli import options
from regard.errors import InputError


def look(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory, e.g. runs/demo.")],
    text: Annotated[str | None, typer.Argument(metavar="INPUT", help="The text to read.")] = None,
    pair: Annotated[
        str | None,
        typer.Option(help="The second text of a pair, or what a question is about."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="The right answer: shows how much the loss rises without each head. By default "
            "the model's own answer is drawn."
        ),
    ] = None,
    prefix: options.Prefix = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write: .html to explore, .png to print; must not exist."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="VIEW[/LAYER/HEAD]", help=".png: e.g. cross, or cross/2/3 alone."),
    ] = None,
    positions: Annotated[
        bool, typer.Option("--positions", help="Draw the position encoding; needs no input.")
    ] = False,
    rollout: Annotated[
        bool,
        typer.Option(
            "--rollout", help="One picture a layer: how much of each input has come up to it."
        ),
    ] = False,
    word: Annotated[
        str | None,
        typer.Option("--neighbors", metavar="WORD", help="List the words nearest to this one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Draw what each head attends to, with its entropy and what it is worth.

    regard look runs/demo "the old dog sleeps" -o dog.html

    regard look runs/demo "the old dog sleeps" --target "der alte Hund schläft" -o dog.png

    regard look runs/demo --positions -o positions.png
    """
    from regard.cli.output import print_json
    from regard.load import load

    of_text = {
        "a target needs the text that it answers": target is not None,
        "--pair needs the first text": pair is not None,
        "--prefix needs a text": prefix is not None,
        "--rollout needs a text": rollout,
    }
    _check(text, of_text, output, positions, word, as_json)
    place = _place(only, output)
    predictor = load(run)
    answers: dict[str, Any] = {}
    if word is not None:
        answers["neighbors"] = _neighbors(predictor, word)
        if not as_json:
            _print_neighbors(answers["neighbors"])
    if text is not None or positions:
        _check_prefix(predictor, prefix, text)
        wanted = {"target": target, "prefix": prefix, "positions": positions, "rollout": rollout}
        read = text if text is None or pair is None else (text, pair)
        answers |= _draw(predictor, read, wanted, output, place, as_json)
    if as_json:
        print_json(answers)


def _check(
    text: str | None,
    of_text: dict[str, bool],
    output: Path | None,
    positions: bool,
    word: str | None,
    as_json: bool,
) -> None:
    """Refuse what cannot be done before a model is read; ``of_text`` needs one."""
    from regard.cli.files import refuse_existing
    from regard.look.picture import check_suffix

    drawn = text is not None or positions
    for what, given in of_text.items():
        if given and text is None:
            raise InputError(what)
    if not drawn and word is None:
        raise InputError("there is nothing to look at", hint="give a text, or --positions")
    if drawn and output is None and not as_json:
        raise InputError("there is nowhere to draw", hint="name a file: -o picture.html (or .png)")
    if output is not None and not drawn:
        raise InputError(
            "neighbors are printed, not drawn", hint="leave -o out, or give a text to draw"
        )
    if output is not None:
        check_suffix(output)
        refuse_existing(output)


def _place(only: str | None, output: Path | None) -> dict[str, Any]:
    """``cross/2/3``, counted from 1, as the arguments of `Picture.save`."""
    if only is None:
        return {}
    if output is None or output.suffix.lower() != ".png":
        raise InputError("--only is for images: a page shows every head", hint="-o picture.png")
    view, *numbers = only.split("/")
    if not numbers:
        return {"view": view}
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        raise InputError(f"{only!r} names no head", where="--only", hint="such as cross/2/3")
    layer, head = (int(number) - 1 for number in numbers)
    return {"view": view, "layer": layer, "head": head}


def _check_prefix(predictor: Any, prefix: str | None, text: str | None) -> None:
    """Say so where the task is missing or unknown.

    Raises:
        InputError: the run reads no prefix.
    """
    from regard.cli.files import notice_prefix

    if prefix is not None and not hasattr(predictor, "ranked"):
        raise InputError("this run reads no prefix", where="--prefix")
    if text is not None and hasattr(predictor, "prefixes"):
        notice_prefix(prefix, predictor.prefixes, predictor.prefix)


def _draw(
    predictor: Any,
    text: str | tuple[str, str] | None,
    wanted: dict[str, Any],
    output: Path | None,
    place: dict[str, Any],
    as_json: bool,
) -> dict[str, Any]:
    from regard import look as looking
    from regard.cli.files import notice_file

    if text is not None and getattr(predictor, "reads", "text") != "picture":
        for one in (text,) if isinstance(text, str) else text:
            notice_file(one)
    picture = looking.look(predictor, text, **wanted)
    if output is not None:
        picture.save(output, **place)
    if as_json:
        return picture.to_dict()
    if picture.target:
        typer.echo(f"{'answer' if picture.own else 'given target'}: {picture.target}")
    typer.echo(f"written: {output}")
    return {}


def _neighbors(predictor: Any, word: str) -> dict[str, list[dict[str, Any]]]:
    """By embedding: the nearest tokens with their cosines."""
    from regard import look as looking

    found: dict[str, list[dict[str, Any]]] = {}
    for name, weight in looking.embeddings(predictor.model).items():
        tokenizer = predictor.tokenizer
        if name.startswith("source"):
            tokenizer = getattr(predictor, "source_tokenizer", tokenizer)
        ids = tokenizer.encode(word)
        if not ids or tokenizer.unk_id in ids or len(weight) < tokenizer.vocab_size:
            continue  # an unknown word, or a table of something else, such as segments
        near = looking.neighbors(weight, ids)
        tokens = tokenizer.tokens([number for number, _ in near])
        found[name] = [
            {"token": token, "cosine": round(cosine, 4)}
            for token, (_, cosine) in zip(tokens, near, strict=True)
        ]
    if not found:
        raise InputError(f"the model does not know {word!r}", where="--neighbors")
    return found


def _print_neighbors(found: dict[str, list[dict[str, Any]]]) -> None:
    from regard.cli.output import print_table

    for name, rows in found.items():
        cells = [(row["token"], f"{row['cosine']:.3f}") for row in rows]
        print_table(["nearest", "cosine"], cells, title=name.replace("_", " "))
