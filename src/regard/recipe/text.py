"""TOML as text: read it, find a key's line in it, read one value, write it."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.errors import RecipeError

_HEADER = re.compile(r"^\s*\[{1,2}\s*([^\[\]#]+?)\s*\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)


def read(path: Path) -> str:
    """The text of a recipe file.

    Raises:
        RecipeError: when it cannot be read as UTF-8 text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError("is not UTF-8 text", where=f"{path}:{line}") from None


def parse(text: str, where: str) -> dict[str, Any]:
    """The nested tables of TOML text.

    Raises:
        RecipeError: with the line of what is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\s*\(at line (\d+), column \d+\)", str(error))
        what = str(error).replace(found[0], "") if found else str(error)
        line = found[1] if found else text.count("\n") + 1
        raise RecipeError(f"is not TOML: {what}", where=f"{where}:{line}") from None


def value(text: str) -> Any:
    """A value as the command line gives it: TOML where it is TOML, otherwise the text itself."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if set(found) != {"value"} or isinstance(found["value"], datetime.date | datetime.time):
        return text
    return found["value"]


def line_of(text: str, key: Sequence[str]) -> int | None:
    """The line where a key stands or something under it, else of the table around it, if any.

    The tables of a list count from 1: ``mixture.2.rate``.
    """
    wanted, table = tuple(key), ()  # type: tuple[str, ...], tuple[str, ...]
    lists = Counter[tuple[str, ...]]()
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            lists[table] += line.lstrip().startswith("[[")
            for one in [one for one, count in lists.items() if count]:
                if table[: len(one)] == one:
                    table = (*one, str(lists[one]), *table[len(one) :])
            found = table
        elif given := _KEY.match(line):
            found = table + _parts(given[1])
        else:
            continue
        shared = min(len(found), len(wanted))
        if found[:shared] == wanted[:shared] and shared > best[0]:
            best = (shared, number)
    return best[1]


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[\w-]+", dotted))


def write(tables: Mapping[str, Any]) -> str:
    """Nested plain values as TOML text; None is left out."""
    import tomli_w

    return tomli_w.dumps(_without_none(tables))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(held) for key, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [_without_none(held) for held in value]
    return value
