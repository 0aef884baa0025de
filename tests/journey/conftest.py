import io
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

import regard

from ._made import Server, write_files


@pytest.fixture
def cli(tmp_path):
    """Run the command line as a user does: another process, in an empty directory."""

    def run(*arguments, cwd=tmp_path, timeout=300, **settings):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        environment |= settings.pop("env", {})
        return subprocess.run(
            [sys.executable, "-m", "regard", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            text=True,
            encoding="utf-8",
            capture_output=True,
            timeout=timeout,
            check=False,
            **settings,
        )

    return run


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, in the test's directory: no import is paid for."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=None):
        from regard.cli import entry

        data = stdin.encode("utf-8") if isinstance(stdin, str) else stdin or b""
        given = io.TextIOWrapper(io.BytesIO(data))
        if stdin is None:  # a terminal
            given.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", given)
        capsys.readouterr()
        status = entry.run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=said.out, stderr=said.err)

    return run


@pytest.fixture
def files(tmp_path):
    """A directory with small parallel files and the recipe tiny.toml for them."""
    write_files(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run that really was trained, of tiny.toml; tests must not change it."""
    directory = tmp_path_factory.mktemp("trained")
    write_files(directory)
    more = {
        "training.max_steps": 192,
        "training.checkpoint.every_steps": 48,
        "evaluation.every_steps": 96,
        "objective.label_smoothing": 0.0,
        "model.layer.dropout": 0.0,
        "model.embedding.dropout": 0.0,
    }
    regard.train(directory / "tiny.toml", more, run=directory / "run")
    return directory / "run"


@pytest.fixture(scope="session")
def unkilled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("unkilled")
    write_files(directory)
    regard.train(directory / "tiny.toml", run=directory / "run")
    return directory / "run"


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """The first eight of the twelve steps, stopped there by Ctrl-C."""
    directory = tmp_path_factory.mktemp("half")
    write_files(directory)

    from regard.training import StepDone

    def stop(event):
        if isinstance(event, StepDone) and event.step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    run = regard.train(directory / "tiny.toml", run=directory / "run", listeners=[stop])
    assert (run.result.reason, run.result.step) == ("interrupt", 8)
    return directory


@pytest.fixture
def halfway(half, tmp_path):
    """A copy of that, with data of its own."""
    shutil.copytree(half / "run", tmp_path / "run")
    write_files(tmp_path)
    text = (tmp_path / "run" / "recipe.toml").read_text()
    (tmp_path / "run" / "recipe.toml").write_text(text.replace(str(half), str(tmp_path)))
    return tmp_path


@pytest.fixture(scope="session")
def server():
    """Starts processes that can be killed."""
    made = Server()
    yield made
    made.close()
