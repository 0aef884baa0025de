"""XQuAD split by article, as the recipe xquad has it: 36 to learn from, 6 to validate, 6 to test.

    python benchmarks/quality/xquad_split.py xquad.en.json(.gz) DIRECTORY
    regard train xquad --run runs/xquad \\
      data.train.file=train.json data.valid.file=valid.json data.test.file=test.json

XQuAD (Artetxe et al., 2020) has no training set. Articles stay whole and in the order of the file,
so that no text is asked about in two parts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.report import existing

from regard.data import read_lines

PARTS = {"train": slice(0, 36), "valid": slice(36, 42), "test": slice(42, None)}


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=existing)
    parser.add_argument("directory", type=existing)
    given = parser.parse_args()
    for name, count in split(given.file, given.directory).items():
        print(f"{given.directory / name}.json: {count} questions")


def split(file: Path, directory: Path) -> dict[str, int]:
    """Write the three files; how many questions each has."""
    articles = json.loads("\n".join(read_lines(file)))["data"]
    counts = {}
    for name, part in PARTS.items():
        data = articles[part]
        counts[name] = sum(len(text["qas"]) for one in data for text in one["paragraphs"])
        path = directory / f"{name}.json"
        path.write_text(json.dumps({"data": data}, ensure_ascii=False) + "\n", encoding="utf-8")
    return counts


if __name__ == "__main__":
    main()
