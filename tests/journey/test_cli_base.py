"""The command line on real files: what every verb has in common, recipe and runs."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points

import pytest

import regard
from regard.cli import entry
from regard.cli.verbs import VERBS
from regard.errors import RegardError
from regard.recipe import Recipe, builtin_names, json_schema


def imported_by(code, tmp_path):
    """The modules that a fresh process has loaded after some code."""
    script = f"import sys\n{code}\nprint(chr(10).join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, text=True, capture_output=True, check=True
    )
    return set(done.stderr.split())


class TestLazy:
    @pytest.mark.parametrize("arguments", [["--help"], ["recipe", "list"], ["recipe", "--help"]])
    def test_help_loads_nothing_heavy(self, arguments, tmp_path):
        code = f"from regard.cli.entry import run\nassert run({arguments!r}) == 0"
        loaded = imported_by(code, tmp_path)
        assert not loaded & {"torch", "numpy", "tokenizers", "matplotlib", "sacrebleu"}

    def test_import_regard_loads_next_to_nothing(self, tmp_path):
        loaded = imported_by("import regard", tmp_path)
        assert not loaded & {"torch", "numpy", "pydantic", "typer"}

    def test_the_package_offers_its_faces(self):
        assert regard.Recipe is Recipe
        assert regard.models.Transformer.__name__ == "Transformer"
        assert {"train", "evaluate", "load", "Recipe", "models", "nn"} <= set(dir(regard))
        with pytest.raises(AttributeError, match="nonsense"):
            regard.nonsense  # noqa: B018

    def test_load_stays_the_function_when_its_module_is_imported(self, tmp_path):
        imported_by(
            "import regard.load\nfrom regard.load import load\nimport regard\n"
            "assert regard.load is load and callable(regard.load)",
            tmp_path,
        )

    def test_garbage_is_collected_again_but_not_in_what_was_imported(self, trained, tmp_path):
        code = (
            "import gc\nfrom pathlib import Path\nfrom regard.cli.files import predictor\n"
            f"predictor(Path({str(trained)!r}), 'translate', None, 'cpu', 'auto')\n"
            "assert gc.isenabled() and gc.get_freeze_count() > 100_000"
        )
        assert "torch" in imported_by(code, tmp_path)


class TestHelp:
    def test_every_verb_is_listed(self, cli):
        done = cli("--help")
        assert done.returncode == 0
        for name, verb in VERBS.items():
            assert f" {name} " in done.stdout
            assert verb.help.split(";")[0].rstrip(".") in done.stdout

    @pytest.mark.parametrize("arguments", [["recipe"], ["new"], ["new", "translation"], ["runs"]])
    def test_verbs_explain_themselves(self, cli, arguments):
        done = cli(*arguments, "-h")
        assert done.returncode == 0
        assert "Usage: regard " + " ".join(arguments) in done.stdout

    def test_version(self, cli):
        done = cli("--version")
        assert (done.returncode, done.stdout) == (0, f"regard {regard.__version__}\n")

    def test_the_installed_command_is_the_module(self):
        (point,) = entry_points(group="console_scripts", name="regard")
        assert point.load() is entry.main


class TestExitStatus:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["recpe"],
            ["--nonsense"],
            ["recipe", "show"],
            ["recipe", "list", "--nonsense"],
            ["recipe", "show", "no-such-recipe"],
            ["recipe", "show", "demo", "training.sed=1"],
            ["new", "translation"],
            ["runs", "nowhere"],
        ],
    )
    def test_a_users_error_is_2_and_nothing_on_stdout(self, cli, arguments):
        done = cli(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()

    def test_a_near_verb_is_suggested(self, cli):
        assert "recipe" in cli("recpe").stderr

    def test_an_error_says_where_and_what_to_do(self, cli):
        done = cli("recipe", "show", "demo", "training.sed=1")
        assert done.stderr.splitlines() == [
            "error: command line: training.sed: unknown key",
            "  did you mean training.seed?",
        ]

    def raising(self, monkeypatch, error):
        def verb():
            raise error

        monkeypatch.setattr("regard.cli.verbs.load", lambda _name: _command(verb))
        return entry.run(["runs"])

    @pytest.mark.parametrize(
        ("error", "status", "words"),
        [
            (RegardError("it is [bold]wrong[/bold]", where="x:1"), 2, "x:1: it is [bold]wrong["),
            (ValueError("a bug"), 1, "This is a bug in regard"),
            (FileNotFoundError(2, "gone", "f"), 1, "This is a bug in regard"),
            (OSError(28, "No space", "f.bin"), 2, "error: f.bin: the disk is full"),
            (PermissionError(13, "denied", "d/f"), 2, "error: d/f: permission denied"),
            (KeyboardInterrupt(), 130, "stopped"),
            (SystemExit(130), 130, ""),
        ],
    )
    def test_statuses(self, monkeypatch, capsys, error, status, words):
        assert self.raising(monkeypatch, error) == status
        said = capsys.readouterr()
        assert words in said.err
        assert said.out == ""
        assert ("Traceback" in said.err) == (status == 1)

    @pytest.mark.parametrize(("sent", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
    def test_signals(self, tmp_path, sent, status):
        code = (
            "import time, sys\n"
            "from regard.cli import entry, verbs\n"
            "from typer.core import TyperCommand\n"
            "def wait():\n"
            "    try:\n"
            "        print('ready', flush=True)\n"
            "        time.sleep(60)\n"
            "    finally: print('cleaned up', flush=True)\n"
            "verbs.load = lambda name: TyperCommand(name, callback=wait)\n"
            "sys.exit(entry.run(['runs']))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(getattr(signal, sent))
            rest, _ = process.communicate(timeout=30)
        assert (process.returncode, rest) == (status, "cleaned up\n")

    @pytest.mark.parametrize("status", [0, 2])
    def test_leaves_in_order_but_does_not_take_itself_apart(self, tmp_path, status):
        code = (
            "import atexit, sys\n"
            "from regard.cli import entry, verbs\n"
            "from typer.core import TyperCommand\n"
            "class Kept:\n"
            "    def __del__(self): print('taken apart')\n"
            "kept = Kept()\n"
            "def work():\n"
            "    atexit.register(print, 'at exit', end='')\n"
            f"    print('worked'); sys.exit({status})\n"
            "verbs.load = lambda name: TyperCommand(name, callback=work)\n"
            "sys.argv = ['regard', 'runs']\n"
            "entry.main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # what is not flushed is lost
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (status, "worked\nat exit", "")

    def test_closed_streams(self, tmp_path):
        def closed(*arguments, number):
            program = [sys.executable, "-m", "regard", *arguments]
            return subprocess.run(
                program, cwd=tmp_path, preexec_fn=lambda: os.close(number), check=False
            ).returncode

        assert closed("recipe", "list", number=1) == 0
        assert closed("recipe", "list", number=0) == 0
        assert closed("recipe", "show", "nothing", number=2) == 2

    def test_a_closed_pipe_is_no_bug(self, tmp_path):
        code = (
            "import sys\n"
            "from regard.cli import entry, verbs\n"
            "from typer.core import TyperCommand\n"
            "def talk():\n"
            "    for number in range(100_000): print(number)\n"
            "verbs.load = lambda name: TyperCommand(name, callback=talk)\n"
            "sys.exit(entry.run(['runs']))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            process.stdout.readline()
            process.stdout.close()
            said = process.stderr.read()
        assert (process.returncode, said) == (141, "")


def _command(function):
    from typer.core import TyperCommand

    return TyperCommand("runs", callback=function)


class TestRecipe:
    def test_list(self, call):
        done = call("recipe", "list")
        assert done.returncode == 0
        for name in builtin_names():
            assert name in done.stdout
        found = json.loads(call("recipe", "list", "--json").stdout)
        assert [row["name"] for row in found] == builtin_names()
        assert all(len(row["about"]) > 20 for row in found)

    def test_show_is_a_recipe_to_go_on_from(self, call, tmp_path):
        done = call("recipe", "show", "multi30k-en-de")
        (tmp_path / "mine.toml").write_text(done.stdout, encoding="utf-8")
        assert done.stdout.startswith("# Multi30k")
        again = call("recipe", "show", "mine.toml")
        assert again.stdout == done.stdout

    def test_show_resolved_says_every_key(self, call):
        done = call("recipe", "show", "demo", "--resolved", "training.seed=7")
        assert done.returncode == 0
        shown = tomllib.loads(done.stdout)
        assert shown["training"]["seed"] == 7
        assert shown["model"]["decoder"]["layer"]["attention"]["num_heads"] == 4
        assert "vocab_size" not in shown["model"]

    def test_schema(self, call):
        assert json.loads(call("recipe", "schema").stdout) == json_schema()
        assert (
            "| `training.seed` | integer ≥ 0 | `1` |"
            in call("recipe", "schema", "--markdown").stdout
        )


def make_run(path, seed, losses):
    path.mkdir(parents=True)
    settings = [f"training.seed={seed}", "training.max_steps=2000", "evaluation.metric=loss"]
    recipe = Recipe.load("demo", settings)
    (path / "recipe.toml").write_text(recipe.resolved({"vocab_size": 50}).dump())
    with (path / "metrics.jsonl").open("w") as file:
        for number, loss in enumerate(losses, start=1):
            step = {
                "event": "step",
                "step": number * 10,
                "terms": {"loss": loss + 1},
                "tokens_per_second": 2000.0,
            }
            scores = {"loss": loss, "bleu": 50 - loss}
            evaluation = {"event": "evaluation", "step": number * 10, "scores": scores}
            file.write(json.dumps(step) + "\n" + json.dumps(evaluation) + "\n")


class TestRuns:
    @pytest.fixture
    def runs(self, tmp_path):
        make_run(tmp_path / "runs" / "a", 1, [5.0, 3.0, 4.0])
        make_run(tmp_path / "runs" / "deep" / "b", 2, [5.0, 2.5])
        return tmp_path / "runs"

    def test_list(self, call, runs):
        done = call("runs", runs)
        assert (done.returncode, done.stderr) == (0, "")
        lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
        assert "30 of 2000" in lines["a"]
        assert "3.000" in lines["a"]
        assert "training.seed: 1, 2" in done.stdout
        assert "2.500" in lines["deep/b"]

    def test_json(self, call, runs):
        first, second = json.loads(call("runs", runs, "--json").stdout)
        assert (first["run"], first["best_step"], first["scores"]["loss"]) == ("a", 20, 3.0)
        assert second["differs_in"] == {"training.seed": 2}
        assert second["tokens_per_second"] == 2000

    def test_one_run_alone(self, call, runs, monkeypatch):
        monkeypatch.chdir(runs)
        (found,) = json.loads(call("runs", "a", "--json").stdout)
        assert found["run"] == "a"

    @pytest.mark.parametrize("ending", ["png", "svg"])
    def test_curves(self, call, runs, tmp_path, ending):
        done = call("runs", runs, "-o", f"curves.{ending}")
        assert done.returncode == 0
        written = (tmp_path / f"curves.{ending}").read_bytes()
        assert written.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])
        if ending == "svg":
            assert b"validation BLEU" in written or written.count(b"<path") > 20

    def test_a_line_half_written_is_a_run_in_progress(self, call, runs):
        with (runs / "a" / "metrics.jsonl").open("a") as file:
            file.write('{"event": "step", "st')
        assert call("runs", runs).returncode == 0
        with (runs / "a" / "metrics.jsonl").open("a") as file:
            file.write("\n{}\n")
        done = call("runs", runs)
        assert done.returncode == 0
        assert "metrics.jsonl:7: this line is damaged and left out" in done.stderr

    def test_a_damaged_run_hides_no_other(self, call, runs):
        (runs / "a" / "recipe.toml").write_text("task = ")
        done = call("runs", runs)
        assert done.returncode == 0
        assert "a is left out: " in done.stderr
        assert "\n deep/b " in done.stdout

    def test_a_run_without_metrics_yet(self, call, runs):
        (runs / "a" / "metrics.jsonl").unlink()
        assert " 0 of " in call("runs", runs / "a").stdout
        done = call("runs", runs / "a", "-o", "curves.png")
        assert done.returncode == 2
        assert "no run has a figure yet" in done.stderr

    @pytest.mark.parametrize(
        ("name", "words"), [("taken.png", "exists"), ("x.jpg", ".png"), ("no/x.png", "directory")]
    )
    def test_bad_outputs(self, call, runs, tmp_path, name, words):
        (tmp_path / "taken.png").write_text("mine")
        done = call("runs", runs, "-o", name)
        assert done.returncode == 2
        assert words in done.stderr
        assert (tmp_path / "taken.png").read_text() == "mine"

    def test_no_runs(self, call, tmp_path):
        done = call("runs", ".")
        assert done.returncode == 2
        assert "there is no run here" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_said_so(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "regard", "recipe", "schema"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
