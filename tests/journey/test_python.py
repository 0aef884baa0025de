"""The calls of the Python face, as a user writes them."""

import dataclasses
import subprocess
import sys

import pytest
import torch

import regard
from regard.errors import InputError, RegardError, RunError
from regard.tasks.generation import Hypothesis

from ._made import bits

TEXTS = ["3 1 4", "", "2 7 1 8 2 8"]


@pytest.fixture(scope="module")
def p(trained):
    return regard.load(trained, precision="auto", device="auto")


class TestTrain:
    def test_it_gives_the_run(self, files):
        run = regard.train(
            files / "tiny.toml", overrides={"training.max_steps": 3}, run=files / "a"
        )
        assert run.path == files / "a"
        assert (run.result.step, run.result.reason, run.result.exit_status) == (3, "finished", 0)
        assert run.result.scores["loss"] > 0
        assert regard.load(run.path).translate("1 2 3") is not None

    def test_every_way_to_say_a_recipe(self, files):
        loaded = regard.Recipe.load(files / "tiny.toml", ["training.max_steps=2"])
        ways = {
            "path": (files / "tiny.toml", {"training.max_steps": 2}),
            "text": (str(files / "tiny.toml"), ["training.max_steps=2"]),
            "nested": (files / "tiny.toml", {"training": {"max_steps": 2}}),
            "recipe": (loaded, None),
            "changed": (loaded.override({"training.max_steps": 5}), {"training.max_steps": 2}),
        }
        for name, (recipe, overrides) in ways.items():
            regard.train(recipe, overrides, run=files / name)
        assert len({bits(files / name, 2) for name in ways}) == 1

    def test_nothing_is_printed(self, files, capsys):
        regard.train(files / "tiny.toml", {"training.max_steps": 1}, run=files / "run")
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "")

    def test_lines_and_events(self, files):
        lines, events = [], []
        more = {"training.max_steps": 2}
        run = files / "run"
        regard.train(
            files / "tiny.toml", more, run=run, say=lines.append, listeners=[events.append]
        )
        assert "300 pairs to train on" in lines
        assert [type(event).__name__ for event in events] == [
            *("Started", "Evaluated", "StepDone", "StepDone", "Evaluated", "Saved", "Stopped")
        ]

    def test_it_goes_on(self, files):
        for step in (2, 4):
            run = regard.train(
                files / "tiny.toml", {"training.max_steps": step}, run=files / "run", resume=True
            )
            assert run.result.step == step

    def test_errors_are_exceptions(self, files):
        with pytest.raises(RegardError, match=r"training\.sed: unknown key"):
            regard.train(files / "tiny.toml", {"training.sed": 1}, run=files / "run")
        regard.train(files / "tiny.toml", {"training.max_steps": 1}, run=files / "run")
        with pytest.raises(RunError, match="files in this directory already"):
            regard.train(files / "tiny.toml", run=files / "run")


class TestEvaluate:
    def test_a_report(self, trained):
        report = regard.evaluate(trained)
        assert set(report.scores) == {"bleu", "chrf", "exact_match"}
        assert report.examples == 40
        assert report.to_dict()["scores"]["bleu"]["value"] == report.scores["bleu"].value

    def test_other_data(self, trained):
        data = trained.parent
        files = {"source": data / "valid.source", "target": str(data / "valid.target")}
        report = regard.evaluate(trained, data=files, versus=trained, beam=2)
        assert [found.p_value for found in report.comparisons] == [1, 1]


class TestLoad:
    def test_a_text_for_a_text_a_list_for_a_list(self, p):
        found = p.translate(TEXTS, beam=5)
        assert isinstance(found, list)
        assert found[1] == ""
        assert p.translate(TEXTS[0], beam=5) == found[0]
        assert p.translate(tuple(TEXTS)) == found
        assert p.translate([]) == []
        assert isinstance(p.translate(""), str)

    def test_nbest(self, p):
        found = p.translate(TEXTS, nbest=3)
        assert [len(row) for row in found] == [3, 3, 3]
        best = found[0][0]
        assert isinstance(best, Hypothesis)
        assert (best.text, " ".join(best.tokens)) == (p.translate(TEXTS[0]),) * 2
        assert best.score >= found[0][1].score >= found[0][2].score
        with pytest.raises(dataclasses.FrozenInstanceError):
            best.text = "x"
        (one, two) = p.translate(TEXTS[0], nbest=2)
        assert (one.text, two.text) == (found[0][0].text, found[0][1].text)

    def test_options(self, p):
        assert p.translate(TEXTS, prefix=["1", "2", "3"])[2].startswith("3")
        assert p.translate(TEXTS[0], prefix="9 9").startswith("9 9")
        assert len(p.translate(TEXTS[2], max_length=2).split()) <= 2
        assert p.translate(TEXTS, strategy="greedy") == p.translate(TEXTS, beam=1)
        sampled = p.translate(TEXTS, strategy="sample", seed=3, temperature=1.5)
        assert sampled == p.translate(TEXTS, temperature=1.5, seed=3)
        for wrong, words in {
            "prefixes": {"prefix": ["1", "2"]},
            "did you mean 'beam'": {"beams": 3},
            "at least 1": {"beam": 0},
        }.items():
            with pytest.raises(RegardError, match=wrong):
                p.translate(TEXTS, **words)

    def test_too_long_a_text_is_named(self, p):
        with pytest.raises(InputError, match="text 2: the text has 1,100 tokens"):
            p.translate(["1", "1 " * 1100])

    def test_the_model_is_a_plain_module(self, p):
        """Logits [B, T, V]; its best first token is the greedy translation's."""
        assert isinstance(p.model, torch.nn.Module)
        assert not p.model.training
        ids = [[*p.tokenizer.encode(text), p.tokenizer.end_id] for text in ("3 1", "7 7")]
        source = torch.tensor(ids)  # [2, 3]
        target = torch.full((2, 1), p.tokenizer.start_id)
        with torch.no_grad():
            logits = p.model(source, target)
            states = p.model.body(source, target)
        assert logits.shape == (2, 1, p.tokenizer.vocab_size)
        assert states.shape == (2, 1, 16)
        torch.testing.assert_close(p.model.head(states), logits)
        real = logits.clone()
        real[..., [p.tokenizer.pad_id, p.tokenizer.start_id]] = -torch.inf
        first = [p.tokenizer.decode([int(row.argmax())]) for row in real[:, 0]]
        found = p.translate(["3 1", "7 7"], strategy="greedy", max_length=1)
        assert first == found

    def test_precision_and_device(self, trained):
        low = regard.load(trained, precision="bfloat16", device="cpu")
        assert {parameter.dtype for parameter in low.model.parameters()} == {torch.bfloat16}
        assert len(low.translate(TEXTS)) == 3
        whole = regard.load(trained, precision="int8")
        assert whole.model.head.codes.dtype == torch.int8
        ids = (torch.tensor([[5, 6, 7]]), torch.tensor([[1, 5]]))
        with torch.no_grad():
            made, expected = (p.model(*ids) for p in (whole, regard.load(trained)))
        assert float((made - expected).abs().max()) < 0.1 * float(expected.std())
        assert len(whole.translate(TEXTS)) == 3
        with pytest.raises(InputError, match="device: there is no device 'tpu'"):
            regard.load(trained, device="tpu")

    def test_checkpoints(self, trained):
        first, last = (regard.load(trained, checkpoint=which) for which in (96, "last"))
        assert not torch.equal(first.model.head.weight, last.model.head.weight)
        with pytest.raises(RegardError, match="there is no checkpoint 7"):
            regard.load(trained, checkpoint="7")


def test_a_run_that_averages(files):
    """`load` takes the mean of the last checkpoints where the recipe asks for it."""
    more = {"training.checkpoint.average": 2}
    regard.train(files / "tiny.toml", more, run=files / "run")
    mean = regard.load(files / "run").model.head.weight
    two = [regard.load(files / "run", checkpoint=step).model.head.weight for step in ("8", "12")]
    torch.testing.assert_close(mean, (two[0] + two[1]) / 2)
    assert not torch.equal(mean, two[1])


def test_a_recipe_with_several_outputs_scores_the_best(files):
    """``decoding.nbest`` is for translate: validation, samples and evaluate take the first."""
    more = {"decoding.nbest": 3, "training.max_steps": 2, "evaluation.metric": "bleu"}
    run = regard.train(files / "tiny.toml", more, run=files / "run")
    assert "bleu" in run.result.scores
    assert regard.evaluate(files / "run").examples == 40
    assert len(regard.load(files / "run").translate("1 2")) == 3


def test_import_loads_no_torch(tmp_path):
    code = "import sys, regard; regard.Recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
