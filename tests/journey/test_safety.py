"""Nothing is lost: killed, stopped, out of space, damaged, twice at once, on a command line."""

import json
import os
import random
import shutil
import signal
import sys
import time

import pytest
import torch

import regard
from regard.training import StepDone

from ._made import Process, bits, checkpoint, contents, metrics, write_files

TRAIN = ["train", "tiny.toml", "--run", "run"]


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("unkilled")
    write_files(directory)
    regard.train(directory / "tiny.toml", run=directory / "run")
    return directory / "run"


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The first eight of the twelve steps, stopped there by Ctrl-C."""
    directory = tmp_path_factory.mktemp("half")
    write_files(directory)

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


def check_same(call, run, unkilled):
    done = call(*TRAIN, "--resume")
    assert done.returncode == 0, done.stderr
    assert bits(run) == bits(unkilled)
    assert metrics(run) == metrics(unkilled)
    assert json.loads((run / "best").read_text()) == json.loads((unkilled / "best").read_text())
    names = {path.name for path in (run / "checkpoints").glob("[!d]*")}  # not damaged-…
    assert names == {path.name for path in (unkilled / "checkpoints").iterdir()}
    return done.stderr


class TestKilled:
    """SIGKILL, then --resume: the unkilled run's bits."""

    def kill(self, server, files, ready, **pauses):
        process = Process(server, *TRAIN, cwd=files, **pauses)
        process.until(ready)
        process.send(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def test_while_the_data_are_prepared(self, server, call, files, unkilled):
        run = files / "run"
        self.kill(server, files, (run / "tokenizer.json").exists, step_pause=0.05)
        check_same(call, run, unkilled)

    def test_before_the_first_checkpoint(self, server, call, files, unkilled):
        run = files / "run"
        self.kill(server, files, (run / "metrics.jsonl").exists, step_pause=0.3)
        assert not checkpoint(run, 4).exists()
        assert "no checkpoint to go on from" in check_same(call, run, unkilled)

    def test_between_checkpoints(self, server, call, files, unkilled):
        run = files / "run"
        self.kill(server, files, checkpoint(run, 4).exists, step_pause=0.3)
        assert not checkpoint(run, 8).exists()
        assert "goes on after step 4 of 12" in check_same(call, run, unkilled)

    def test_while_a_checkpoint_is_written(self, server, call, files, unkilled):
        run = files / "run"
        hidden = run / "checkpoints" / ".step-000008"
        self.kill(server, files, hidden.exists, save_pause=0.3)
        assert hidden.exists()
        assert not checkpoint(run, 8).exists()
        done = call("translate", "run", "1 2 3")
        assert done.returncode == 0, done.stderr
        assert "goes on after step 6 of 12" in check_same(call, run, unkilled)
        assert not hidden.exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("instant", range(12))
    def test_at_any_instant(self, server, call, files, unkilled, instant):
        """Twice each; every third one while a checkpoint is written."""
        run, chance = files / "run", random.Random(instant)
        words = list(TRAIN)
        for _ in range(2):
            process = Process(server, *words, cwd=files, step_pause=0.05, save_pause=0.02)
            words = [*TRAIN, "--resume"]
            until = time.monotonic() + 0.1 + 2.0 * chance.random()
            hidden = run / "checkpoints" / f".step-{chance.choice((4, 6, 8, 12)):06d}"
            while process.poll() is None and time.monotonic() < until:
                if instant % 3 == 0 and hidden.exists():
                    break
                time.sleep(0.001)
            if process.poll() is None:
                process.send(signal.SIGKILL)
            assert process.wait() in (-signal.SIGKILL, 0), process.output()
        check_same(call, run, unkilled)


class TestStopped:
    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
    )
    def test_it_saves_and_goes_on(self, server, call, files, unkilled, number, status):
        run = files / "run"
        process = Process(server, *TRAIN, cwd=files, step_pause=0.3)
        process.until(checkpoint(run, 4).exists)
        process.send(number)
        assert process.wait() == status
        assert "saved; go on with: regard train run --resume" in process.output()
        newest = max(path.name for path in (run / "checkpoints").iterdir())
        assert "step-000004" <= newest < "step-000012"
        done = call("train", "run", "--resume")
        assert done.returncode == 0, done.stderr
        assert bits(run) == bits(unkilled)
        assert metrics(run) == metrics(unkilled)

    def test_before_training_begins(self, server, call, files, unkilled):
        """In the preparation, too; the exit status says so, and the run can go on."""
        process = Process(server, *TRAIN, cwd=files)
        process.until((files / "run").exists)
        process.send(signal.SIGTERM)
        assert process.wait() in (143, 0)
        check_same(call, files / "run", unkilled)


class TestTwoProcesses:
    def test_the_second_is_refused(self, server, call, files, unkilled):
        run = files / "run"
        process = Process(server, *TRAIN, cwd=files, step_pause=0.3)
        process.until((run / "metrics.jsonl").exists)
        done = call(*TRAIN, "--resume")
        assert done.returncode == 2
        assert "run: another process is training this run" in done.stderr
        assert call("runs", "run").returncode == 0
        assert process.wait() == 0
        assert bits(run) == bits(unkilled)


@pytest.mark.skipif(sys.platform != "linux", reason="rights are given up by a Linux call")
class TestReadOnly:
    def run(self, server, files, *words):
        process = Process(server, *words, cwd=files, obey_rights=True)
        return process.wait(), process.output()

    def test_no_room_for_the_run(self, server, files):
        (files / "locked").mkdir()
        (files / "locked").chmod(0o555)
        status, said = self.run(server, files, "train", "tiny.toml", "--run", "locked/run")
        assert status == 2, said
        assert "locked/run: cannot be written: Permission denied" in said
        assert "Traceback" not in said

    def test_checkpoints_that_cannot_be_written(self, server, call, halfway, unkilled):
        before = contents(halfway / "run" / "checkpoints")
        (halfway / "run" / "checkpoints").chmod(0o555)
        status, said = self.run(server, halfway, *TRAIN, "--resume")
        assert status == 2, said
        assert "step-000012: cannot be written: Permission denied" in said
        assert "intact: step-000004, step-000006, step-000008" in said
        assert contents(halfway / "run" / "checkpoints") == before
        (halfway / "run" / "checkpoints").chmod(0o755)
        check_same(call, halfway / "run", unkilled)

    def test_a_run_that_is_only_read(self, server, halfway):
        everything = [halfway / "run", *(halfway / "run").rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        for words in (["translate", "run", "1 2"], ["evaluate", "run"], ["cost", "run"]):
            status, said = self.run(server, halfway, *words)
            assert status == 0, said
        for path in everything:
            path.chmod(0o755)


class TestFullDisk:
    """A limit on the size of files stands for a disk without room."""

    @pytest.mark.parametrize("limit", [300, 30_000])
    def test_it_says_so_and_loses_nothing(self, server, call, halfway, unkilled, limit):
        before = contents(halfway / "run" / "checkpoints")
        process = Process(server, *TRAIN, "--resume", cwd=halfway, file_limit=limit)
        assert process.wait() == 2, process.output()
        said = process.output()
        assert "cannot be written" in said
        assert "Traceback" not in said
        assert contents(halfway / "run" / "checkpoints") == before
        check_same(call, halfway / "run", unkilled)

    def test_a_run_that_never_began_leaves_nothing(self, server, files):
        process = Process(server, *TRAIN, cwd=files, file_limit=300)
        assert process.wait() == 2, process.output()
        assert "cannot be written" in process.output()
        assert not (files / "run").exists()

    def test_translations(self, server, trained, tmp_path):
        (tmp_path / "in.txt").write_text("1 2 3\n" * 100)
        words = ["translate", trained, "-i", "in.txt", "-o", "out.txt"]
        process = Process(server, *words, cwd=tmp_path, file_limit=100)
        assert process.wait() == 2, process.output()
        assert "larger than allowed" in process.output()
        assert not (tmp_path / "out.txt").exists()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-7])


def altered(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


class TestDamaged:
    @pytest.mark.parametrize(
        ("name", "damage", "words"),
        [
            ("model.safetensors", cut_short, "model.safetensors was altered or cut short"),
            ("optimizer.safetensors", altered, "optimizer.safetensors was altered or cut short"),
            ("state.json", lambda path: path.unlink(), "state.json is missing"),
            ("checksums.json", lambda path: path.unlink(), "checksums.json cannot be used"),
            ("checksums.json", cut_short, "checksums.json cannot be used"),
        ],
    )
    def test_the_older_checkpoint_is_used(self, call, halfway, unkilled, name, damage, words):
        damage(checkpoint(halfway / "run", 8) / name)
        said = check_same(call, halfway / "run", unkilled)
        assert f"warning: step-000008 is damaged ({words}" in said
        assert "goes on after step 6 of 12" in said

    def test_none_is_whole(self, call, halfway, unkilled):
        for step in (4, 6, 8):
            cut_short(checkpoint(halfway / "run", step) / "model.safetensors")
        said = check_same(call, halfway / "run", unkilled)
        assert "step-000004 is damaged" in said
        assert "starts at step 0" in said

    @pytest.mark.parametrize("name", ["model.safetensors", "checksums.json"])
    def test_it_is_not_used(self, call, halfway, name):
        best = json.loads((halfway / "run" / "best").read_text())["step"]
        cut_short(checkpoint(halfway / "run", best) / name)
        for verb in (["translate", "run", "1 2"], ["evaluate", "run"], ["look", "run", "--json"]):
            done = call(*verb, *(["1 2"] if verb[0] == "look" else []))
            assert done.returncode == 2, done.stderr
            assert f"step-{best:06d}" in done.stderr
            assert name in done.stderr
        assert best == 6
        done = call("translate", "run", "1 2", "--checkpoint", 4)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("recipe.toml", "recipe.toml"),
            ("tokenizer.json", "tokenizer.json"),
            ("environment.json", "environment.json"),
            ("best", "best"),
        ],
    )
    def test_other_files(self, call, halfway, name, words):
        (halfway / "run" / name).write_text("{ half")
        done = call("translate", "run", "1 2")
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr

    def test_no_checkpoint(self, call, halfway):
        shutil.rmtree(halfway / "run" / "checkpoints")
        (halfway / "run" / "best").unlink()
        for verb in (["translate", "run", "1"], ["evaluate", "run"]):
            done = call(*verb)
            assert done.returncode == 2
            assert "there is no checkpoint" in done.stderr
            assert "--resume" in done.stderr
        done = call("average", "run", "--last", 1, "-o", "x")
        assert done.returncode == 2

    def test_no_tokenizer(self, call, halfway):
        (halfway / "run" / "tokenizer.json").unlink()
        done = call("translate", "run", "1")
        assert done.returncode == 2
        assert "the run has no tokenizer" in done.stderr


class TestNotFinite:
    @pytest.mark.parametrize("precision", ["float32", "float16"])
    def test_it_stops_and_names_the_lines(self, call, files, precision):
        words = [
            f"training.precision={precision}",
            "training.schedule.peak=1e30",
            "training.checkpoint.every_steps=1",
        ]
        done = call(*TRAIN, *words)
        assert done.returncode == 2, done.stderr
        assert "is not finite; no weight was touched, nothing was saved" in done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert f"{files / 'train.source'}:" in line
        assert " more: the " in line
        assert "Traceback" not in done.stderr
        # What was saved before the step stays and is whole.
        assert regard.load("run", checkpoint="last").model is not None


class TestGoingOn:
    def test_a_finished_run(self, call, unkilled):
        before = contents(unkilled / "checkpoints")
        done = call("train", unkilled, "--resume")
        assert done.returncode == 0, done.stderr
        assert "stopped after step 12: finished" in done.stderr
        assert contents(unkilled / "checkpoints") == before

    def test_another_recipe(self, call, halfway):
        before = contents(halfway / "run")
        done = call(*TRAIN, "--resume", "training.seed=3", "model.layer.dropout=0.2")
        assert done.returncode == 2
        assert "it differs in model." in done.stderr
        assert "training.seed" in done.stderr
        assert "max_steps" not in done.stderr
        assert contents(halfway / "run") == before

    def test_what_may_change(self, call, halfway):
        words = [
            "evaluation.every_steps=2",
            "evaluation.samples=0",
            "training.checkpoint.keep=2",
            "training.max_steps=10",
            "training.workers=1",
        ]
        done = call(*TRAIN, "--resume", *words)
        assert done.returncode == 0, done.stderr
        assert "new: training.max_steps = 10, was 12" in done.stderr
        assert "new: evaluation.every_steps = 2, was 6" in done.stderr
        assert "goes on after step 8 of 10" in done.stderr
        changed = regard.Recipe.load("run", settled=True)
        assert (changed.training.max_steps, changed.training.checkpoint.keep) == (10, 2)

    def test_another_number_of_threads_is_a_warning(self, call, halfway, unkilled):
        before = torch.get_num_threads()
        try:
            done = call(*TRAIN, "--resume", "training.threads=2", "training.max_steps=9")
        finally:
            torch.set_num_threads(before)
        assert done.returncode == 0, done.stderr
        warning = "warning: threads was 1 and is now 2: the last bits may differ"
        assert warning in done.stderr.splitlines()
        # 0 leaves it to the run.
        done = call(*TRAIN, "--resume", "training.threads=0", "training.max_steps=9")
        assert done.returncode == 0, done.stderr
        assert "threads was" not in done.stderr
        assert "2 threads" in done.stderr
        torch.set_num_threads(before)

    def test_other_data(self, call, halfway):
        with (halfway / "train.source").open("a") as source:
            source.write("1 2 3\n")
        with (halfway / "train.target").open("a") as target:
            target.write("1 2 3\n")
        before = contents(halfway / "run" / "checkpoints")
        done = call(*TRAIN, "--resume")
        assert done.returncode == 2
        assert "data.train: the data are not those" in done.stderr
        assert contents(halfway / "run" / "checkpoints") == before

    def test_a_new_run(self, call, files, unkilled):
        said = check_same(call, files / "run", unkilled)
        assert "training starts at step 0 of 12" in said
        assert "there is no checkpoint to go on from" in said

    def test_nothing_of_an_older_directory_is_removed(self, call, files):
        """A preparation that fails clears away what it made, and only in a directory of its own."""
        run = files / "run"
        (run / "data").mkdir(parents=True)
        (run / ".lock").write_text("")
        (run / "data" / "mine.txt").write_text("mine")
        done = call(*TRAIN, "data.train.source=nowhere", "--resume")
        assert done.returncode == 2
        assert (run / "data" / "mine.txt").read_text() == "mine"

    def test_a_run_without_its_recipe_keeps_the_rest(self, call, halfway, unkilled):
        run = halfway / "run"
        (run / "recipe.toml").unlink()
        before = (run / "tokenizer.json").stat().st_mtime_ns
        done = call(*TRAIN, "data.train.source=nowhere", "--resume")
        assert done.returncode == 2
        assert (run / "tokenizer.json").stat().st_mtime_ns == before
        check_same(call, run, unkilled)
        assert (run / "tokenizer.json").stat().st_mtime_ns == before

    def test_leftovers_of_other_settings_are_not_used(self, call, files, unkilled):
        """A killed attempt may have left a tokenizer that was learned otherwise."""
        run = files / "run"
        run.mkdir()
        (run / ".lock").write_text("")
        shutil.copyfile(unkilled / "tokenizer.json", run / "tokenizer.json")
        text = (run / "tokenizer.json").read_text().replace('"7"', '"seven"')
        (run / "tokenizer.json").write_text(text)
        check_same(call, run, unkilled)
