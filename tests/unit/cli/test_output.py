"""Tables and JSON for people and programs."""

import json

from regard.cli.output import print_json, print_table


def test_json(capsys):
    print_json({"a": [1, "ü"]})
    said = capsys.readouterr().out
    assert json.loads(said) == {"a": [1, "ü"]}
    assert "ü" in said


def test_a_long_cell_is_whole_where_there_is_no_terminal(capsys):
    long = "|".join(f"key{n}:value" for n in range(40))
    print_table(("name", "score", "signature"), [("BLEU", "41.02", long), ("x", "-", "")])
    said = capsys.readouterr().out
    assert long in said
    assert "…" not in said
    assert not any(line.count("BLEU") and "41.02" not in line for line in said.splitlines())


def test_numbers_stand_to_the_right(capsys):
    print_table(("n", "name"), [("1", "a"), ("1,000", "b")])
    lines = capsys.readouterr().out.splitlines()
    (small,) = (line for line in lines if line.rstrip().endswith("a"))
    (large,) = (line for line in lines if line.rstrip().endswith("b"))
    assert small.index("1") == large.index("1,000") + 4
