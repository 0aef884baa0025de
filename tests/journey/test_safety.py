"""Nothing is lost: killed, stopped, out of space, twice at once, on a command line."""

import random
import signal
import sys
import time

import pytest

from ._made import TRAIN, Process, bits, check_same, checkpoint, contents, metrics


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
