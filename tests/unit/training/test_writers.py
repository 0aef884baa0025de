from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest

from regard.errors import RegardError
from regard.training.events import Evaluated, Saved, Started, StepDone, Stopped, Warned
from regard.training.writers import MetricsWriter, TensorBoardWriter, TextWriter, as_line

STARTED = Started(0, False, 100, "bfloat16", "cpu", 2, 1, 264)
STEP = StepDone(50, 1.25, {"loss": 2.123456789}, 400, 12345.678, 0.001, 1.5, {"a": 1.5}, 0, True)


def test_metrics_are_json_lines_of_what_has_figures(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    quiet = StepDone(51, 1.25, {"loss": 2.0}, 400, 1.0, 0.001, 1.5)
    sample = {"source": "a", "output": "b"}
    for event in (STARTED, STEP, quiet, Evaluated(50, {"loss": 1.0}, (sample,)), Stopped(50, "x")):
        writer(event)
    step, evaluation = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert step == {
        "event": "step",
        "step": 50,
        "epoch": 1.25,
        "terms": {"loss": 2.12346},
        "tokens": 400,
        "tokens_per_second": 12345.7,
        "rate": 0.001,
        "gradient_norm": 1.5,
        "layer_norms": {"a": 1.5},
        "skipped": 0,
    }
    assert evaluation["event"] == "evaluation"
    assert evaluation["samples"] == [sample]


def test_a_file_is_cut_back_to_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    writer = TextWriter(path)
    assert writer.mark() == 0
    writer(Warned(1, "one"))
    mark = writer.mark()
    writer(Warned(2, "two"))
    other = TextWriter(path)  # of the process that goes on
    other.cut_back(mark)
    other(Warned(2, "three"))
    texts = [line.split("warning: ")[1] for line in path.read_text().splitlines()]
    assert texts == ["one", "three"]
    other.cut_back(10_000)  # shorter than its mark: left as it is
    assert len(path.read_text().splitlines()) == 2


def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    writer = TextWriter(tmp_path / "none" / "log.txt")
    with pytest.raises(RegardError, match="cannot be written"):
        writer(Warned(1, "one"))


def test_lines_in_words() -> None:
    assert as_line(STARTED) == (
        "training starts at step 0 of 100: 264 parameters, bfloat16 on cpu, 2 threads"
    )
    resumed = Started(7, True, None, "float32", "cpu", 1, 2, 3, "a note")
    assert as_line(resumed) is not None
    assert "goes on after step 7: " in str(as_line(resumed))
    assert str(as_line(resumed)).endswith("; a note")
    assert "loss 2.1235" in str(as_line(STEP))
    assert "12,346" in str(as_line(STEP))
    assert as_line(StepDone(1, 0.1, {}, 1, 1.0, 0.1, 1.0)) is None
    assert as_line(Saved(5, Path("x/step-000005"), 0.25)) == "saved step-000005 in 0.2 s"
    assert "(best)" in str(as_line(Evaluated(5, {"loss": 1.0}, best=True)))
    assert as_line(Stopped(9, "patience")) == "stopped after step 9: patience"


def test_tensorboard_gets_the_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer = TensorBoardWriter(tmp_path)
    for event in (STARTED, STEP, Evaluated(50, {"bleu": 31.5}), Stopped(50, "finished")):
        writer(event)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    assert found.Scalars("train/loss")[0].value == pytest.approx(2.1234567)
    assert found.Scalars("gradient_norm/a")[0].step == 50
    assert found.Scalars("valid/bleu")[0].value == pytest.approx(31.5)


def test_tensorboard_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RegardError, match="tensorboard") as caught:
        TensorBoardWriter(tmp_path)(STARTED)
    assert "pip install 'regard[tensorboard]'" in str(caught.value)
