"""``regard evaluate``: scores with signatures and intervals, alone and against another run."""

import json
import re

import pytest
import sacrebleu

import regard
from regard.load import load

from ._made import write_files


@pytest.fixture(scope="session")
def rival(trained, tmp_path_factory):
    """The same run under another seed."""
    directory = tmp_path_factory.mktemp("rival")
    regard.train(trained, {"training.seed": 2, "training.max_steps": 96}, run=directory / "run")
    return directory / "run"


def test_the_tests_scores(call, trained):
    done = call("evaluate", trained)
    assert (done.returncode, done.stderr) == (0, "")
    data = trained.parent
    references = (data / "test.target").read_text().splitlines()
    outputs = load(trained).translate((data / "test.source").read_text().splitlines())
    expected = sacrebleu.corpus_bleu(outputs, [references], tokenize="none", force=True).score
    row = next(line.split() for line in done.stdout.splitlines() if line.strip().startswith("BLEU"))
    assert float(row[1]) == pytest.approx(expected, abs=0.005)
    low, high = float(row[2]), float(row[4])
    assert low <= expected <= high
    signature = r"^BLEU: BLEU\|nrefs:1\|bs:1000\|seed:12345\|.*tok:none.*version:[\d.]+$"
    assert re.search(signature, done.stdout, re.MULTILINE)
    assert "chrF2|nrefs:1" in done.stdout
    assert "exact match" in done.stdout


def test_json(call, trained):
    done = call("evaluate", trained, "--json")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["examples"] == 40
    assert set(found["scores"]) == {"bleu", "chrf", "exact_match"}
    for score in found["scores"].values():
        assert score["interval"][0] <= score["value"] <= score["interval"][1]
    assert found["comparisons"] == []


def test_files_in_every_spelling(call, trained, tmp_path):
    write_files(tmp_path)
    spellings = [
        ["--source", "valid.source", "--target", "valid.target"],
        ["--data", "source=valid.source", "target=valid.target"],
        ["--data", "source=valid.source", "--data", "target=valid.target"],
        ["--data", "file=valid.tsv", "fields.source=b", "fields.target=a"],
        ["--data", "file=valid.tsv", "fields.source=2", "fields.target=1"],
        ["--data", "file=valid.tsv", "fields={source = 2, target = 1}"],
    ]
    sides = [(tmp_path / f"valid.{side}").read_text().splitlines() for side in ("target", "source")]
    table = ["\t".join(row) for row in zip(*sides, strict=True)]
    (tmp_path / "valid.tsv").write_text("\n".join(["a\tb", *table]))
    found = []
    for spelling in spellings:
        if spelling[-1].endswith("=1"):
            (tmp_path / "valid.tsv").write_text("\n".join(table))
        done = call("evaluate", trained, *spelling, "--json")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["scores"])
    assert all(scores == found[0] for scores in found)
    assert found[0] != json.loads(call("evaluate", trained, "--json").stdout)["scores"]


def test_against_another_run(call, trained, rival):
    done = call("evaluate", trained, "--versus", rival)
    assert done.returncode == 0, done.stderr
    assert re.search(r"BLEU: [\d.]+ against [\d.]+ of .*, p = [\d.]+ \(.*significant", done.stdout)
    found = json.loads(call("evaluate", trained, "--versus", rival, "--json").stdout)
    turned = json.loads(call("evaluate", rival, "--versus", trained, "--json").stdout)
    for ours, theirs in zip(found["comparisons"], turned["comparisons"], strict=True):
        assert ours["difference"] == pytest.approx(-theirs["difference"])
        assert (ours["run"], ours["versus"]) == pytest.approx((theirs["versus"], theirs["run"]))
        assert 0 < ours["p_value"] <= 1


def test_against_itself_nothing_is_significant(call, trained):
    found = json.loads(call("evaluate", trained, "--versus", trained, "--json").stdout)
    assert [(one["difference"], one["p_value"]) for one in found["comparisons"]] == [(0, 1), (0, 1)]


def test_the_beam_matters(call, trained):
    wide, alone = (
        json.loads(call("evaluate", trained, "--beam", beam, "--json").stdout) for beam in (5, 1)
    )
    assert wide["scores"] == json.loads(call("evaluate", trained, "--json").stdout)["scores"]
    assert wide["scores"] != alone["scores"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "sorce=test.source"], "did you mean 'source'?"),
        (["--data", "source"], "--data: 'source' is not KEY=FILE"),
        (["--source", "test.source"], "lacks the key 'target'"),
        (["more"], "unexpected 'more'"),
        (["--source", "test.source", "--target", "no.target"], "no.target: there is no such file"),
        (["--source", "test.source", "--target", "short"], "test.source has 40, short has 2"),
        (["--source", "short", "--target", "latin"], "latin:2: this line is not UTF-8"),
        (["--source", "long", "--target", "short"], "long:2: the text has 1,100 tokens"),
        (["--source", "empty", "--target", "empty"], "empty: the file is empty"),
        (["--data", "file=short"], "the kind of this table cannot be told"),
        (["--data", "file=a.tsv"], "there is no field 'source'"),
        (["--data", "file=a.tsv", "fields=3"], "fields is 3, not a table"),
        (
            ["--data", "file=a.tsv", "fields={source='1', target=2}"],
            "for the column of that number, write 1 without quotes",
        ),
        (["--versus", "nowhere"], "nowhere: there is no such run"),
        (["--device", "tpu"], "device: there is no device 'tpu'"),
        (["--precision", "int4"], "int4"),
        (["--beam", "0"], "--beam"),
        (["--checkpoint", "3"], "there is no checkpoint 3"),
    ],
)
def test_bad_input(call, trained, tmp_path, arguments, words):
    write_files(tmp_path)
    (tmp_path / "short").write_text("1\n2\n")
    (tmp_path / "latin").write_bytes(b"1\n\xe4\n")
    (tmp_path / "long").write_text("1\n" + "1 " * 1100 + "\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "a.tsv").write_text("en\tde\n1\t1\n")
    done = call("evaluate", trained, *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_test_data(call, trained, tmp_path):
    write_files(tmp_path)
    recipe = (tmp_path / "tiny.toml").read_text().replace("test = {", "# test = {")
    (tmp_path / "tiny.toml").write_text(recipe)
    assert call("train", "tiny.toml", "training.max_steps=1", "--run", "run").returncode == 0
    done = call("evaluate", "run")
    assert done.returncode == 2
    assert "names no test data" in done.stderr
    assert "--source FILE" in done.stderr
    assert call("evaluate", "run", "--source=test.source", "--target=test.target").returncode == 0
