"""``regard``: exit status 0 done, 1 a bug, 2 the user's error, 130 Ctrl-C, 143 SIGTERM.

When the reader of a pipe goes away (``regard … | head``), the status is 141, as a program's that
SIGPIPE ends.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn

import typer

import regard
from regard.cli.verbs import Verbs, make_app
from regard.errors import RegardError

BUG, USER_ERROR, INTERRUPTED, TERMINATED, PIPE_CLOSED = 1, 2, 130, 143, 141

_MACHINE_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than allowed here",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EMFILE: "too many open files",
}


_FOR_TORCH = {
    # Threads that wait spin only shortly: on a busy machine, long spinning slows training tenfold.
    "GOMP_SPINCOUNT": "10000",
    # Texts come in many shapes, and oneDNN makes code for each (`regard.nn.backend.rounded`).
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096",
    "LRU_CACHE_CAPACITY": "4096",
}
"""Read when torch is loaded, so it must be said before; a setting of one's own counts."""


class Root(Verbs):
    """``regard`` itself: what no verb of it handles ends here, before typer's own endings."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _silence_stdout()
            raise typer.Exit(PIPE_CLOSED) from None


app = make_app(
    cls=Root,
    no_args_is_help=True,
    help="""Train Transformers, use them, and see what they do.

    New here? `regard demo` shows it all in a few minutes.

    With your own data, start with `regard new --help`""",
    epilog="Each verb explains itself: `regard VERB --help`",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"regard {regard.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """The options of ``regard`` itself."""


def main() -> NoReturn:
    """Run the command line and end the process."""
    for name, value in _FOR_TORCH.items():
        os.environ.setdefault(name, value)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the caller closed it
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    ended: list[int] = []
    atexit.register(_leave, ended)  # called after all that is registered from here on
    ended.append(run(sys.argv[1:]))
    sys.exit(ended[0])


def _leave(ended: Sequence[int]) -> None:
    """End the process as the last thing at exit, with the status in ``ended``.

    The system takes back what a process holds at once; the interpreter takes half a second to take
    torch's modules apart. What cannot be written is left to the interpreter to tell.
    """
    with suppress(OSError, ValueError):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if ended:
            os._exit(ended[0])


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit status."""
    with _terminable():
        try:
            status = _call(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            _silence_stdout()
            status = PIPE_CLOSED
    return status


def _call(arguments: Sequence[str]) -> int:
    command: Any = typer.main.get_command(app)
    try:
        command.main(args=list(arguments), prog_name="regard")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except RegardError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            return _bug()
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{_MACHINE_ERRORS[error.errno]}")
    except Exception:
        return _bug()
    return 0


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return USER_ERROR


def _bug() -> int:
    traceback.print_exc()
    print("\nThis is a bug in regard. Please report it with the lines above.", file=sys.stderr)
    return BUG


def _silence_stdout() -> None:
    """Nobody reads it any more: let what is left in its buffer go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the program in order, with status 143; training puts its own handler over it."""

    def stop(_signal: int, _frame: Any) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
