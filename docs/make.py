"""Write what the code and the benchmarks say into the documentation: python docs/make.py

Between marks stand, in docs/guide/recipes.md, the tables of every recipe key, and in README.md the
figures of benchmarks/results/. A test holds that both are current. --check writes nothing and
exits 1 where something differs.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.chart import by_title, read  # noqa: E402
from benchmarks.report import table  # noqa: E402

from regard.recipe.schema import as_table, json_schema, key_rows  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
CHART = "docs/images/speed.png"
UNKNOWN = "not measured yet"

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
    """Write the parts, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    old = {path: path.read_text(encoding="utf-8") for path in PARTS}
    new = {path: renewed(path, text) for path, text in old.items()}
    if check:
        return int(old != new)
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")
    return 0


def renewed(path: Path, page: str) -> str:
    """A page with its part as it is now."""
    name, make = PARTS[path]
    begin, end = f"<!-- {name}: begin (docs/make.py writes this) -->", f"<!-- {name}: end -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{make().strip()}\n\n{end}{tail}"


# Recipes


def tables() -> str:
    """A heading and a table for each section of a recipe."""
    sections: dict[str, list[Row]] = {}
    for row in once(key_rows(json_schema())):
        name = row[0].partition(".")[0] if "." in row[0] else ""
        sections.setdefault(name, []).append(row)
    ordered = {"": sections.pop("", []), **sections}
    return "\n".join(part for name, rows in ordered.items() for part in _section(name, rows))


def _section(name: str, rows: list[Row]) -> Iterator[str]:
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


# Figures


def figures() -> str:
    """Speed beside the peers, and scores, as far as they were measured."""
    return f"{speed()}\n\n{scores()}"


def speed() -> str:
    """The chart, where there is one, and each job and case beside the fastest of the others."""
    rows = read(sorted(RESULTS.glob("*.json")))
    if not rows:
        return f"Speed beside other systems: {UNKNOWN}."
    lines = [
        [title, f"{least.ratio:.2f} ×", f"{least.peer}{others(held)}"]
        for title, held in by_title(rows).items()
        for least in [min(held, key=lambda row: row.ratio)]
    ]
    chart = f"![Tokens a second beside other systems]({CHART})\n\n"
    drawn = chart if (ROOT / CHART).exists() else ""
    head = ["speed, in one run beside the others", "regard is", "the fastest of the others"]
    return drawn + table(head, lines)


def others(held: Sequence[Any]) -> str:
    """How many there were."""
    return f", of {len(held)}" if len(held) > 1 else ""


def scores() -> str:
    """The table of scores."""
    with (RESULTS / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            [row["what"], row["wanted"], row["here"] or UNKNOWN, row["how"]]
            for row in csv.DictReader(file)
        ]
    return table(["score", "wanted", "here", "how"], rows)


PARTS: dict[Path, tuple[str, Callable[[], str]]] = {
    ROOT / "docs" / "guide" / "recipes.md": ("keys", tables),
    ROOT / "README.md": ("figures", figures),
}

if __name__ == "__main__":
    sys.exit(main())
