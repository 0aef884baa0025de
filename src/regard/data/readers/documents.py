"""Plain text as a stream, for language models: pieces that stand end to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regard.data.readers.lines import check_file, display_name, read_lines
from regard.data.readers.source import Example

PIECE = 1 << 16
"""Characters from which a piece ends, at the end of a line: memory holds one at a time."""


class RunningText:
    """A text file as one text: its lines with their ends, in pieces of many lines.

    Every line ends in a line feed, the last one too. Beside it stands one column, ``text``.
    """

    def __init__(self, path: str | Path) -> None:
        self.columns = ("text",)
        self.files = (check_file(path),)
        self.identity: Mapping[str, Any] = {"format": "running text"}

    def __iter__(self) -> Iterator[Example]:
        name, held, size, first = display_name(self.files[0]), list[str](), 0, 1
        for number, line in enumerate(read_lines(self.files[0]), start=1):
            held.append(line + "\n")
            size += len(line) + 1
            if size >= PIECE:
                yield Example(("".join(held),), name, first)
                held, size, first = [], 0, number + 1
        if held:
            yield Example(("".join(held),), name, first)
