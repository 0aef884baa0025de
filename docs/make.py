"""Write what the code itself says into the guide: python docs/make.py

Between the marks of docs/guide/recipes.md stand the tables of every recipe key; a test holds that
they are those of `regard recipe schema`. --check writes nothing and exits 1 where they differ.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from regard.recipe.schema import as_table, json_schema, key_rows

PAGE = Path(__file__).parent / "guide" / "recipes.md"
BEGIN, END = "<!-- keys: begin (docs/make.py writes this) -->", "<!-- keys: end -->"

Row = tuple[str, str, str, str]

# Tables that say the same as another, key by key, are not printed again.
SAME = (
    (re.compile(r"^data\.(valid|test)\."), "data.train."),
    (re.compile(r"^model\.(encoder|decoder)\."), "model."),
)
SAID_ONCE = {
    "data": "`data.valid` and `data.test` have the keys of `data.train`.",
    "model": "`layer`, `positions` and `num_layers` are those of every stack; "
    "`model.encoder.…` and `model.decoder.…` have the same keys for one stack alone.",
}


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    page = PAGE.read_text(encoding="utf-8")
    written = with_tables(page)
    if parser.parse_args().check:
        return int(page != written)
    PAGE.write_text(written, encoding="utf-8")
    return 0


def with_tables(page: str) -> str:
    """The page with the tables as the code has them now."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables()}\n{END}{tail}"


def tables() -> str:
    """A heading and a table for each section of a recipe."""
    sections: dict[str, list[Row]] = {}
    for row in once(key_rows(json_schema())):
        name = row[0].partition(".")[0]
        sections.setdefault(name if "." in row[0] else "", []).append(row)
    alone = {"": sections.pop("", [])}
    return "\n".join(
        part for name, rows in {**alone, **sections}.items() for part in _part(name, rows)
    )


def _part(name: str, rows: list[Row]) -> Iterator[str]:
    yield f"### `[{name}]`\n" if name else "### At the top\n"
    if name in SAID_ONCE:
        yield f"{SAID_ONCE[name]}\n"
    yield as_table(rows)


def once(rows: list[Row]) -> list[Row]:
    """The rows without those that say the same as another table's."""
    told = {key: rest for key, *rest in rows}
    return [
        row for row in rows if (twin := twin_of(row[0])) == row[0] or not _same(row, told, twin)
    ]


def twin_of(key: str) -> str:
    """The key under which a table's meaning is printed."""
    for pattern, instead in SAME:
        key = pattern.sub(instead, key)
    return key


def _same(row: Row, told: dict[str, list[str]], twin: str) -> bool:
    def plain(cells: list[str]) -> list[str]:
        return [cell.removesuffix(" (of every stack)") for cell in cells]

    return twin in told and plain(told[twin]) == plain(list(row[1:]))


if __name__ == "__main__":
    sys.exit(main())
