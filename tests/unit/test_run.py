from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from regard.errors import CheckpointError, RunError
from regard.run import Run

RECIPE = 'task = "translation"\n[training.checkpoint]\naverage = {average}\n'


def made(path: Path, *steps: int, average: int = 0) -> Run:
    run = Run.create(path)
    run.write_recipe(RECIPE.format(average=average))
    for step in steps:
        run.store.save(step, {"model": {"weight": torch.full((2, 3), float(step))}}, {})
    run.unlock()
    return run


def linear() -> torch.nn.Module:
    return torch.nn.Linear(3, 2, bias=False)


def test_a_run_is_created_and_opened(tmp_path: Path) -> None:
    made(tmp_path / "deep" / "run", 5)
    run = Run.open(tmp_path / "deep" / "run")
    assert run.has_recipe
    assert run.checkpoint().step == 5
    assert run.checkpoint("5").step == 5
    assert run.metrics() == []
    assert run.environment() == {}


def test_it_opens_wherever_it_is_copied(tmp_path: Path) -> None:
    made(tmp_path / "run", 5).store.mark_best(5, "loss", 1.0)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.rmtree(tmp_path / "run")
    assert Run.open(tmp_path / "copy").weights()[1] == "best, step 5"


def test_a_directory_with_files_is_refused_unless_the_run_goes_on(tmp_path: Path) -> None:
    made(tmp_path / "run", 5)
    with pytest.raises(RunError, match="files in this directory") as caught:
        Run.create(tmp_path / "run")
    assert "--resume" in str(caught.value)
    Run.create(tmp_path / "run", resume=True).unlock()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(RunError, match="something else"):
        Run.create(tmp_path / "photos", resume=True)
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty").unlock()
    Run.create(tmp_path / "new", resume=True).unlock()


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        Run.open(tmp_path / "none")
    with pytest.raises(RunError, match=r"no recipe\.toml"):
        Run.open(tmp_path)
    made(tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="newer regard"):
        Run.open(tmp_path / "run")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    with pytest.raises(RunError, match="another process"):
        Run.create(tmp_path / "run", resume=True)
    run.unlock()
    with Run.hold(tmp_path / "run", resume=True), pytest.raises(RunError, match="another process"):
        Run.create(tmp_path / "run", resume=True)
    Run.create(tmp_path / "run", resume=True).unlock()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        Run.create(tmp_path / "file" / "run")


READ_ONLY = """
import os, sys
from regard.errors import RunError
from regard.run import Run
if os.geteuid() == 0:  # root may write everywhere: be nobody
    os.setgid(65534), os.setuid(65534)
for path in sys.argv[1:]:
    try:
        Run.create(path, resume=True)
    except RunError as error:
        print(error)
"""


def test_a_read_only_directory(tmp_path: Path) -> None:
    made(tmp_path / "run", 5)
    os.chmod(tmp_path / "run", 0o555)
    if os.geteuid() == 0:
        for parent in (tmp_path, *tmp_path.parents[:2]):
            os.chmod(parent, 0o755)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(tmp_path / "run"), str(tmp_path / "run" / "new")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.chmod(tmp_path / "run", 0o755)
    assert done.stdout.count("cannot be written: Permission denied") == 2, done.stderr


def test_weights_for_use(tmp_path: Path) -> None:
    run = made(tmp_path / "run", 10, 20, 30)

    def value(which: int | str = "auto") -> tuple[float, str]:
        model = linear()
        name = run.load_weights(model, which)
        return float(model.state_dict()["weight"][0, 0]), name

    assert value() == (30.0, "last, step 30")
    run.store.mark_best(20, "loss", 1.0)
    assert value() == (20.0, "best, step 20")
    assert value("last") == (30.0, "last, step 30")
    assert value(10) == (10.0, "step 10")
    assert value("10") == (10.0, "step 10")
    run.write_recipe(RECIPE.format(average=2))
    assert value() == (25.0, "mean of steps 20, 30")
    with pytest.raises(CheckpointError, match="newest"):
        value("newest")
    with pytest.raises(CheckpointError, match="weight has shape"):
        run.load_weights(torch.nn.Linear(4, 2, bias=False))
    with pytest.raises(CheckpointError, match="bias is missing"):
        run.load_weights(torch.nn.Linear(3, 2))


def test_a_moving_average_is_meant_where_there_is_one(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    weights = {"model": {"weight": torch.zeros(2, 3)}, "ema": {"weight": torch.ones(2, 3)}}
    run.store.save(5, weights, {})
    assert torch.equal(run.weights()[0]["weight"], torch.ones(2, 3))
    weights["ema"]["weight"] = torch.full((2, 3), 3.0)
    run.store.save(10, weights, {})
    mean, steps = run.average(2)
    assert steps == [5, 10]
    assert torch.equal(mean["weight"], torch.full((2, 3), 2.0))


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    made(tmp_path / "run")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Run.open(tmp_path / "run").load_weights(linear())


def test_a_changed_environment_is_said(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    facts = {"precision": "float32", "threads": 2, "ranks": 1, "device": "cpu"}
    assert run.record_environment(facts) == []
    kept = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert kept["torch"] == torch.__version__
    assert kept["threads"] == 2
    assert run.record_environment(facts) == []
    warnings = run.record_environment({**facts, "threads": 4})
    assert warnings == ["threads was 2 and is now 4: the last bits may differ"]
    (warning,) = run.record_environment({**facts, "threads": 4, "native": True})
    assert warning == "operators in C++ are used now: dropout draws otherwise"


def test_metrics_leave_out_a_half_written_line(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in run.metrics()] == [1, 2]
