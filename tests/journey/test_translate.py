"""``regard translate``: where texts come from and go to, and what the options do."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from regard.cli import files, translate
from regard.load import load

TEXTS = ["3 1 4 1 5", "2 7", "1 8 2 8 1 8 2 8"]


@pytest.fixture
def outputs(trained):
    return load(trained).translate(TEXTS)


def lines(done):
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


class TestInputsAndOutputs:
    def test_arguments(self, call, trained, outputs):
        assert lines(call("translate", trained, *TEXTS)) == outputs

    def test_standard_input(self, call, trained, outputs):
        text = "".join(f"{line}\n" for line in TEXTS)
        assert lines(call("translate", trained, stdin=text)) == outputs
        assert lines(call("translate", trained, "-i", "-", stdin=text)) == outputs

    @pytest.mark.parametrize(
        "text", ["\n".join(TEXTS), "\r\n".join(TEXTS) + "\r\n", "\ufeff" + "\n".join(TEXTS)]
    )
    def test_a_file_of_any_making(self, call, trained, outputs, tmp_path, text):
        (tmp_path / "in.txt").write_bytes(text.encode())
        assert lines(call("translate", trained, "-i", "in.txt")) == outputs

    def test_a_packed_file(self, call, trained, outputs, tmp_path):
        import gzip

        (tmp_path / "in.gz").write_bytes(gzip.compress("\n".join(TEXTS).encode()))
        assert lines(call("translate", trained, "-i", "in.gz")) == outputs

    @pytest.mark.parametrize("ending", ["gz", "zst"])
    def test_into_a_packed_file(self, call, trained, outputs, ending):
        assert lines(call("translate", trained, *TEXTS, "-o", f"out.{ending}")) == []
        assert lines(call("translate", trained, "-i", f"out.{ending}"))
        from regard.data import read_lines

        assert list(read_lines(f"out.{ending}")) == outputs

    def test_an_output_is_one_line(self):
        assert translate._plain("", SimpleNamespace(text="a\r\nb\nc\td")) == "a b c d"
        assert translate._scored("", SimpleNamespace(text="a\tb", score=-1.0)) == "-1.0000\ta b"

    def test_into_a_file(self, call, trained, outputs, tmp_path):
        assert lines(call("translate", trained, *TEXTS, "-o", "out.txt")) == []
        assert (tmp_path / "out.txt").read_bytes().decode() == "".join(f"{o}\n" for o in outputs)
        assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]

    def test_empty_lines_stay_empty_in_their_places(self, call, trained, outputs):
        text = f"\n{TEXTS[0]}\n\n   \n{TEXTS[1]}\n"
        found = lines(call("translate", trained, stdin=text))
        assert found == ["", outputs[0], "", "", outputs[1]]

    def test_nothing_gives_nothing(self, call, trained):
        assert lines(call("translate", trained, stdin="")) == []

    def test_the_order_is_kept_over_chunks_and_lengths(self, call, trained, monkeypatch):
        many = [" ".join("0123456789"[: 1 + (7 * n) % 10]) for n in range(23)]
        whole = lines(call("translate", trained, *many))
        monkeypatch.setattr(files, "CHUNK", 5)
        assert lines(call("translate", trained, stdin="\n".join(many))) == whole
        assert whole == [lines(call("translate", trained, one))[0] for one in many]

    @pytest.mark.parametrize("tokens", [1, 40, 100_000])
    def test_batches_change_nothing(self, call, trained, outputs, tokens):
        assert lines(call("translate", trained, *TEXTS, "--batch-tokens", tokens)) == outputs

    def test_a_pipe(self, trained, outputs):
        """Text comes in and goes out between other programs; a reader may leave early."""
        command = f"printf '%s\\n' '{TEXTS[0]}' '{TEXTS[1]}' | {{}} translate {trained} | head -n 1"
        done = subprocess.run(
            ["bash", "-c", command.format(f"{sys.executable} -m regard")],
            text=True,
            capture_output=True,
            check=True,
            timeout=300,
        )
        assert (done.stdout, done.stderr) == (outputs[0] + "\n", "")


class TestOptions:
    def test_json(self, call, trained, outputs):
        found = [json.loads(line) for line in lines(call("translate", trained, *TEXTS, "--json"))]
        assert [one["source"] for one in found] == TEXTS
        assert [one["text"] for one in found] == outputs
        assert all(one["score"] < 0 for one in found)
        assert [" ".join(one["tokens"]) for one in found] == outputs

    def test_nbest(self, call, trained):
        rows = [
            line.split("\t") for line in lines(call("translate", trained, *TEXTS, "--nbest", 3))
        ]
        assert len(rows) == 9
        for first in (0, 3, 6):
            scores = [float(score) for score, _ in rows[first : first + 3]]
            assert scores == sorted(scores, reverse=True)
            assert len({text for _, text in rows[first : first + 3]}) == 3
        assert [text for _, text in rows[::3]] == load(trained).translate(TEXTS)
        found = [
            json.loads(line)
            for line in lines(call("translate", trained, *TEXTS, "--nbest", 3, "--json"))
        ]
        assert [f"{one['score']:.4f}" for one in found] == [score for score, _ in rows]
        assert [one["source"] for one in found[::3]] == TEXTS

    def test_more_outputs_than_the_beam_widen_it(self, call, trained):
        assert len(lines(call("translate", trained, TEXTS[0], "--nbest", 7))) == 7

    def test_strategies(self, call, trained):
        greedy = lines(call("translate", trained, *TEXTS, "--strategy", "greedy"))
        assert greedy == lines(call("translate", trained, *TEXTS, "--beam", 1))
        wide = call("translate", trained, *TEXTS, "--beam", 8, "--json")
        alone = call("translate", trained, *TEXTS, "--beam", 1, "--json")
        scores = [[json.loads(line)["score"] for line in lines(done)] for done in (wide, alone)]
        assert scores[0] != scores[1]

    def test_samples_follow_the_seed(self, call, trained):
        def sample(seed, *more):
            options = ["--strategy", "sample", "--temperature", 2, "--seed", seed, *more]
            return lines(call("translate", trained, *TEXTS, *options))

        assert sample(1) == sample(1)
        assert sample(1) != sample(2)
        assert sample(1, "--batch-tokens", 1) == sample(1)
        likeliest = lines(call("translate", trained, *TEXTS, "--strategy", "greedy"))
        assert sample(1, "--top-k", 1) == likeliest
        assert sample(2, "--top-p", 1e-6) == likeliest
        assert sample(3, "--min-p", 1) == likeliest

    def test_prefix(self, call, trained, tmp_path):
        """Each output begins with it, those of a file too."""
        (tmp_path / "in.txt").write_text("\n".join([*TEXTS, ""]))
        for source in (TEXTS, ["-i", "in.txt"]):
            found = lines(call("translate", trained, *source, "--prefix", "9 0"))
            assert len(found) == 3
            assert all(line.startswith("9 0") for line in found)

    def test_lengths(self, call, trained):
        for length in (1, 4):
            found = lines(call("translate", trained, *TEXTS, "--max-length", length))
            assert all(len(line.split()) <= length for line in found)
        longest = lines(call("translate", trained, TEXTS[1], "--max-length", "input+1"))
        assert len(longest[0].split()) <= 4

    def test_the_length_penalty(self, call, trained):
        """Without a penalty a score is a log-probability: it falls with each token."""
        free = call("translate", trained, *TEXTS, "--json", "--length-penalty", 0)
        strong = call(
            *("translate", trained, *TEXTS, "--json"),
            *("--length-penalty", 3, "--length-penalty-kind", "gnmt"),
        )
        lengths = [
            sum(len(json.loads(line)["tokens"]) for line in lines(done)) for done in (free, strong)
        ]
        assert lengths[0] <= lengths[1]
        assert free.stdout != strong.stdout

    def test_precision_and_checkpoint(self, call, trained, outputs):
        assert len(lines(call("translate", trained, *TEXTS, "--precision", "bfloat16"))) == 3
        best = json.loads((trained / "best").read_text())["step"]
        assert lines(call("translate", trained, *TEXTS, "--checkpoint", best)) == outputs
        assert lines(call("translate", trained, *TEXTS, "--checkpoint", "best")) == outputs
        early = call("translate", trained, *TEXTS, "--checkpoint", 96, "--json")
        late = call("translate", trained, *TEXTS, "--checkpoint", 192, "--json")
        assert lines(early) != lines(late)
        assert lines(call("translate", trained, *TEXTS, "--checkpoint", "last", "--json")) == lines(
            late
        )


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--beam", 0], "--beam"),
            (["--nbest", 0], "--nbest"),
            (["--nbest", 4, "--beam", 2], "decoding.nbest: 4 hypotheses wanted"),
            (["--strategy", "greedy", "--nbest", 2], "decoding.nbest"),
            (["--strategy", "beem"], "decoding.strategy: must be"),
            (["--max-length", "long"], "decoding.max_length: must be a number"),
            (["--max-length", 0], "decoding.max_length: must be at least 1"),
            (["--temperature", 0], "decoding.temperature: must be above 0"),
            (["--beam", 2, "--top-k", 3], "has no meaning with strategy 'beam'"),
            (["--top-p", 2], "decoding.top_p: must be at most 1"),
            (["--length-penalty-kind", "none"], "decoding.length_penalty.kind"),
            (["--device", "tpu"], "device: there is no device 'tpu'"),
            (["--precision", "float64"], "precision: there is no 'float64'"),
            (["--checkpoint", "newest"], "there is no checkpoint 'newest'"),
            (["--checkpoint", 7], "there is no checkpoint 7"),
            (["-i", "nowhere.txt"], "not both"),
            (["-o", "no/out.txt"], "no: there is no such directory"),
            (["--max-length", 2, "--prefix", "1 2 3"], "a prefix of 3 tokens"),
        ],
    )
    def test_options(self, call, trained, tmp_path, options, words):
        if "-o" not in options:
            options = [*options, "-o", "out.txt"]
        done = call("translate", trained, "1 2", *options)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"1 2\n3 \xe4\n", ":2: this line is not UTF-8"),
            (b"1 2\n" + b"1 " * 1100 + b"\n", ":2: the text has 1,100 tokens"),
        ],
    )
    def test_texts(self, call, trained, tmp_path, data, words):
        (tmp_path / "in.txt").write_bytes(data)
        for place, arguments in {
            "in.txt": {"arguments": ["-i", "in.txt"]},
            "<stdin>": {"arguments": [], "stdin": data},
        }.items():
            done = call("translate", trained, *arguments.pop("arguments"), **arguments)
            assert done.returncode == 2
            assert f"error: {place}{words}" in done.stderr

    def test_what_was_done_before_an_error_stays(self, call, trained, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "CHUNK", 2)
        (tmp_path / "in.txt").write_text("1\n2\n3\n4\n" + "5 " * 1100)
        done = call("translate", trained, "-i", "in.txt", "-o", "out.txt")
        assert done.returncode == 2
        assert "in.txt:5: the text has" in done.stderr
        assert "out.txt.partial" in done.stderr
        assert len((tmp_path / "out.txt.partial").read_text().splitlines()) == 4
        assert not (tmp_path / "out.txt").exists()
        (tmp_path / "in.txt").write_text("1\n2\n")
        assert call("translate", trained, "-i", "in.txt", "-o", "out.txt").returncode == 0
        assert not (tmp_path / "out.txt.partial").exists()

    def test_an_output_that_exists(self, call, trained, tmp_path):
        (tmp_path / "out.txt").write_text("mine")
        done = call("translate", trained, "1", "-o", "out.txt")
        assert done.returncode == 2
        assert "out.txt: this file exists already" in done.stderr
        assert (tmp_path / "out.txt").read_text() == "mine"

    def test_no_run(self, call, trained, tmp_path):
        (tmp_path / "file").write_text("")
        for path, words in {
            "nowhere": "nowhere: there is no such run",
            "file": "file: this is a file, not a run",
            tmp_path: "this is no run: it has no recipe.toml",
        }.items():
            done = call("translate", path, "1")
            assert done.returncode == 2
            assert words in done.stderr

    def test_nobody_types(self, call, trained, monkeypatch):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        done = call("translate", trained)
        assert done.returncode == 2
        assert "there is nothing to work on" in done.stderr


@pytest.fixture
def other_task(monkeypatch, trained, tmp_path):
    """A copy of the run whose task does not translate."""
    import shutil
    import types

    from regard import registry
    from regard.tasks.translation import Translation

    class Other(Translation):
        name = "other"

        def predictor(self, model):
            return types.SimpleNamespace(model=model)

    monkeypatch.setitem(sys.modules, "other_task", types.SimpleNamespace(TASK=Other))
    monkeypatch.setitem(registry.TASKS, "other", "other_task:TASK")
    shutil.copytree(trained, tmp_path / "run")
    text = (tmp_path / "run" / "recipe.toml").read_text()
    (tmp_path / "run" / "recipe.toml").write_text(text.replace('"translation"', '"other"', 1))
    return tmp_path / "run"


def test_a_run_of_another_task(call, trained, other_task):
    done = call("translate", other_task, "1 2")
    assert done.returncode == 2
    assert "this run does not translate" in done.stderr
    done = call("evaluate", trained, "--versus", other_task)
    assert done.returncode == 2
    assert "is a run of other, not translation" in done.stderr


def test_a_run_whose_task_is_not_known_here(call, other_task, monkeypatch):
    """Made with a plug-in that is not installed."""
    from regard import registry

    monkeypatch.delitem(registry.TASKS, "other")
    done = call("translate", other_task, "1 2")
    assert done.returncode == 2
    assert "recipe.toml:1: task: there is no 'other'" in done.stderr
