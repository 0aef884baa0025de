"""``regard chat``: a dialogue in the terminal, or turns from a file or a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer

from regard.cli import options

RESET, QUIT = "/reset", "/quit"
HELP = f"{RESET} begins anew, {QUIT} or Ctrl-D ends, Ctrl-C stops an answer"


def chat(
    run: options.Run,
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="turns; without any, the terminal or standard input"),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("-i", "--input", help="file of turns, one a line (- = stdin)")
    ] = None,
    output: options.Output = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object a line: text, answer")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(help="tokens of an answer at most", min=1)] = 200,
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
    """Talk with a model that was trained on dialogues; answers appear as they come.

    In a terminal, /reset begins anew, /quit or Ctrl-D ends, Ctrl-C stops an answer. Elsewhere each
    line is a turn, and is answered. The model sees what was said before, as far as it reads.

    regard chat runs/dialogue

    regard chat runs/dialogue "I am hungry." "In San Jose, please." --temperature 0.7
    """
    from regard.cli.files import one_line, opened_output, predictor, texts_from

    wanted: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "strategy": strategy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    with opened_output(output) as write:
        model = predictor(run, "chat", precision, device, checkpoint)
        talk = Talk(model, {key: value for key, value in wanted.items() if value is not None})
        if text or input_file or not sys.stdin.isatty():
            for one, answer in _answered(talk, texts_from(text, input_file)):
                fields = {"text": one, "answer": answer}
                write(json.dumps(fields, ensure_ascii=False) if as_json else one_line(answer))
        else:
            _converse(talk)


class Talk:
    """A dialogue as it goes on: what was said, and the model that answers.

    Attributes:
        model: the run's `regard.tasks.chat.Chat`.
        options: of each answer.
        turns: said so far, as far as the model still reads them.
    """

    def __init__(self, model: Any, options: dict[str, Any]) -> None:
        self.model = model
        self.options = options
        self.turns: list[Any] = []
        self._told = False

    def answer(self, text: str) -> Iterator[str]:
        """Pieces of the answer to a turn; what was written counts as said, also when stopped."""
        turns = [*self.turns, (self.model.roles.asks, text)]
        kept = self.model.within(turns, max_new_tokens=self.options["max_new_tokens"])
        if len(kept) < len(turns) and not self._told:
            self._told = True
            print("the oldest turns are forgotten: the model reads no more", file=sys.stderr)
        self.turns = list(kept)
        said = ""
        try:
            for piece in self.model.chat(kept, stream=True, **self.options):
                said += piece
                yield piece
        finally:
            if said.strip():
                self.turns.append((self.model.roles.answers, said))

    def reset(self) -> None:
        """Begin anew."""
        self.turns, self._told = [], False


def _answered(talk: Talk, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each turn with its answer; empty lines are passed by."""
    for text in texts:
        if text.strip() == QUIT:
            return
        if text.strip() == RESET:
            talk.reset()
        elif text.strip():
            yield text, "".join(talk.answer(text))


def _converse(talk: Talk) -> None:
    """The dialogue in a terminal."""
    import importlib.util

    if importlib.util.find_spec("readline") is not None:
        import readline  # noqa: F401  (input() edits lines with it)
    print(HELP)
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            print()
            return
        if text == QUIT:
            return
        if text == RESET:
            talk.reset()
        elif text.startswith("/"):
            print(HELP)
        elif text:
            _say(talk.answer(text), sys.stdout.write)


def _say(pieces: Iterator[str], write: Callable[[str], Any]) -> None:
    """Show an answer as it comes; Ctrl-C ends it, an error is told, and the talk goes on."""
    from regard.errors import InputError

    try:
        for piece in pieces:
            write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        write(" …")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    write("\n")
