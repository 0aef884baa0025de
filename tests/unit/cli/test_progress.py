"""What a user sees of a run: a bar in a terminal, plain lines elsewhere."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from regard.cli import progress
from regard.training import Evaluated, Saved, Started, StepDone, Stopped, Warned

SAMPLE = {"source": "the [red] dog", "target": "der Hund", "output": "der [/x] Hund"}


def started(step=0):
    return Started(step, bool(step), 100, "float32", "cpu", 1, 1, 1234)


def step(number, loss=2.5):
    return StepDone(number, 0.5, {"loss": loss}, 400, 12345.0, 0.001, 1.0)


EVENTS = [
    started(),
    Evaluated(0, {"loss": 4.0}, (SAMPLE,), False, 0.1),
    step(1),
    step(2),
    Warned(2, "something to know"),
    Saved(2, Path("run/checkpoints/step-000002")),
    Evaluated(2, {"loss": 3.0, "bleu": 12.5}, (SAMPLE,), True, 0.1),
    Stopped(2, "finished"),
]


class TestLines:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def test_a_log_that_reads_well(self, capsys):
        lines = progress.Lines()
        for event in EVENTS:
            self.now += 10
            lines(event)
        lines.close()
        said = capsys.readouterr()
        assert said.out == ""
        assert "\r" not in said.err
        assert "\x1b" not in said.err
        assert "step 1, loss 2.500, 12,345 tokens/s, time left unknown yet" in said.err
        assert "step 2," not in said.err  # too soon after the first
        assert "something to know" in said.err
        assert "bleu 12.5" in said.err
        assert "  source: the [red] dog" in said.err
        assert "(best)" in said.err
        assert "finished" in said.err

    def test_the_time_left(self, capsys):
        lines = progress.Lines()
        lines(started())
        for number in range(1, 41):
            lines(step(number))
            self.now += 4
        assert "step 40" not in capsys.readouterr().err
        lines(step(41))
        # 40 steps took 160 s, 59 are left.
        assert "step 41, loss 2.500, 12,345 tokens/s, 3m56s left" in capsys.readouterr().err


class TestClock:
    def test_a_resumed_run_counts_its_own_steps(self, monkeypatch):
        now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: now)
        clock = progress.Clock()
        clock.take(started(50))
        assert clock.left() == "time left unknown yet"
        clock.take(step(51))
        now = 20.0
        clock.take(step(61))
        assert clock.left() == "1m18s left"

    def test_durations(self):
        assert progress.duration(59.6) == "0m59s"
        assert progress.duration(3600 + 120 + 3) == "1h02m"


class TestBar:
    def test_a_terminal_gets_a_bar(self):
        written = io.StringIO()
        console = Console(file=written, force_terminal=True, width=100)
        bar = progress.listener(console)
        assert isinstance(bar, progress.Bar)
        for event in EVENTS:
            bar(event)
        bar.close()
        said = written.getvalue()
        for words in ("step 2", "loss 2.500", "something to know", "12.5", "the [red] dog", "[/x]"):
            assert words in said
        assert said.rstrip().splitlines()[-1].endswith("finished") or "finished" in said

    def test_it_leaves_the_terminal_after_an_error(self):
        written = io.StringIO()
        bar = progress.Bar(Console(file=written, force_terminal=True, width=100))
        bar(started())
        bar.close()
        bar.close()
        assert written.getvalue().endswith("\x1b[?25h")  # the cursor is back

    def test_no_terminal_gets_lines(self):
        assert isinstance(progress.listener(Console(file=io.StringIO())), progress.Lines)
