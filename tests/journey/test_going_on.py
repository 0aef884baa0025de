"""``--resume`` on damaged checkpoints, other recipes and other data; losses that are not finite."""

import json
import shutil

import pytest

import regard

from ._made import TRAIN, bits, check_same, checkpoint, contents


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
        done = call(*TRAIN, "--resume", "training.threads=2", "training.max_steps=9")
        assert done.returncode == 0, done.stderr
        warning = "warning: threads was 1 and is now 2: the last bits may differ"
        assert warning in done.stderr.splitlines()
        # 0 leaves it to the run.
        done = call(*TRAIN, "--resume", "training.threads=0", "training.max_steps=9")
        assert done.returncode == 0, done.stderr
        assert "threads was" not in done.stderr
        assert "2 threads" in done.stderr

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

    def test_moved_data(self, call, halfway, unkilled):
        (halfway / "moved").mkdir()
        for side in ("source", "target"):
            shutil.move(halfway / f"train.{side}", halfway / "moved" / f"train.{side}")
        moved = [f"data.train.{side}=moved/train.{side}" for side in ("source", "target")]
        done = call(*TRAIN, "--resume", *moved, "data.cache=cache")
        assert done.returncode == 0, done.stderr
        assert "new: data.train.source = " in done.stderr
        assert bits(halfway / "run") == bits(unkilled)

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
