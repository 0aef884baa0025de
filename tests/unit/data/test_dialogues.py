"""The reader of dialogues: both forms of a turn, and every fault with its file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from regard.data import Dialogues
from regard.errors import DataError

ROLES = ("user", "assistant")
TURNS = [["user", "Hi"], ["assistant", "Hello ö"]]


def read(path: Path, field: str = "turns") -> list[Any]:
    source = Dialogues(path, field=field, roles=ROLES, answers="assistant")
    return [(json.loads(one.fields[0]), one.origin) for one in source if one.fields[0]]


def test_both_forms_of_a_turn(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    messages = [{"role": role, "content": text} for role, text in TURNS]
    path.write_text(json.dumps({"turns": TURNS}) + "\n\n" + json.dumps({"turns": messages}) + "\n")
    assert read(path) == [(TURNS, f"{path}:1"), (TURNS, f"{path}:3")]
    source = Dialogues(path, field="turns", roles=ROLES, answers="assistant")
    assert [one.fields for one in source][1] == ("", "")
    assert all(one.fields[0] == one.fields[1] for one in source)


def test_another_field_and_packed(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"messages": TURNS, "id": 7}).encode()))
    assert read(path, "messages") == [(TURNS, f"{path}:1")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "talk.jsonl:2: the line is not valid JSON"),
        ("[]", "talk.jsonl:2: the line is not a JSON object"),
        ('{"turn": []}', "there is no field 'turns'"),
        ({"turns": []}, "talk.jsonl:2: a dialogue is a list of turns, at least one"),
        ({"turns": "Hi"}, "a dialogue is a list of turns"),
        ({"turns": ["Hi"]}, "turn 1 is neither"),
        ({"turns": [["user", "Hi", 3]]}, "turn 1 is neither"),
        ({"turns": [{"role": "user"}]}, "turn 1 is neither"),
        ({"turns": [*TURNS, ["usr", "Hi"]]}, "turn 3 has the unknown role 'usr'"),
        ({"turns": [*TURNS, [None, "Hi"]]}, "turn 3 has the unknown role None"),
        ({"turns": [*TURNS, [["user"], "Hi"]]}, "turn 3 has the unknown role"),
        ({"turns": [*TURNS, ["user", " "]]}, "turn 3, of 'user', is empty"),
        ({"turns": [["user", ["Hi"]]]}, "holds a list, not a text"),
        ({"turns": [["user", "Hi"]]}, "the dialogue has no answer: no turn of 'assistant'"),
    ],
)
def test_faults(tmp_path: Path, line: Any, words: str) -> None:
    path = tmp_path / "talk.jsonl"
    bad = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps({"turns": TURNS}) + "\n" + bad + "\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert words in str(error.value)
    assert "talk.jsonl:2" in str(error.value)


def test_the_nearest_role_is_suggested(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"turns": [["usr", "Hi"]]}))
    with pytest.raises(DataError, match="did you mean 'user'"):
        read(path)


def test_other_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "talk.tsv").write_text("user\tHi\n")
    with pytest.raises(DataError, match="read from JSON lines"):
        read(tmp_path / "talk.tsv")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.jsonl")
