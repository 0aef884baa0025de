"""The command line: a file per verb or two, each imported when it is called."""

from regard.cli.entry import main

__all__ = ["main"]
