"""The README's commands, in their order, in an empty directory: its `sh` blocks and its Python.

Three rules, and no others: what `INSTALLATION` begins a line with is left to the reader, training
is made short by the settings of `SHORT`, and the demo's corpus has 2,000 pairs to learn from.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from regard import corpora

README = Path(__file__).resolve().parents[2] / "README.md"
INSTALLATION = ("make ", "pip ", "git ")
TOOLS = ("head ", "cp ")

SHORT = {
    "demo": "--set training.max_steps=2 --set evaluation.samples=0 --set decoding.beam=1 "
    "--set decoding.max_length=12",
    "check": "training.max_steps=2 decoding.beam=1",
    "train": "training.max_steps=2 evaluation.samples=0 decoding.beam=1 decoding.max_length=12",
}


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(INSTALLATION)]


def test_what_is_not_run_is_installation() -> None:
    lines = "".join(blocks("sh")).splitlines()
    assert {line.split("#")[0].strip() for line in lines if line.startswith(INSTALLATION)} == {
        "make demo",
        "make test",
    }
    assert all(line.startswith(("regard ", *TOOLS)) for line in commands())


@pytest.fixture
def shell(call, tmp_path, monkeypatch):
    """Runs a line: tools by the shell, `regard` in this process, fed by what is before a pipe."""
    demo = dataclasses.replace(corpora._CORPORA["demo"], size=2000)
    monkeypatch.setitem(corpora._CORPORA, "demo", demo)

    def run(line: str) -> str:
        feeding, _, command = line.rpartition(" | ")
        words = shlex.split(command, comments=True)
        fed = feeding or ("" if words[0] == "regard" else line)
        said = subprocess.run(fed, shell=True, cwd=tmp_path, capture_output=True, check=True).stdout
        if words[0] != "regard":
            return said.decode("utf-8")
        words += shlex.split(SHORT.get(words[1], ""))
        done = call(*words[1:], stdin=said if feeding else None)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return str(done.stdout)

    return run


@pytest.mark.timeout(900)
def test_the_journey(shell, tmp_path) -> None:
    said = {line: shell(line) for line in commands()}

    def of(start: str) -> list[str]:
        return next(text for line, text in said.items() if line.startswith(start)).splitlines()

    assert "all is well" in "".join(of("regard check"))
    assert len(of("regard translate runs/demo")) == 1
    lines = [(tmp_path / name).read_bytes().count(b"\n") for name in ("test.en", "test.out")]
    assert lines[0] == lines[1] > 0
    assert len(of("head -n 3")) == 3
    for name in ("mine.toml", "potato.png", "coffee.html", "positions.png", "runs/mine/best"):
        assert (tmp_path / name).stat().st_size > 0
    for text in blocks("python"):
        exec(compile(text, str(README), "exec"), {})
