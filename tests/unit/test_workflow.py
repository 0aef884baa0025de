"""The journey in Python, piece by piece: what is checked when, and what is kept."""

import json
from types import SimpleNamespace

import pytest
import torch

from regard import registry, workflow
from regard.errors import RecipeError, RunError
from regard.load import load
from regard.nn import native
from regard.nn.positions.scheme import NoPositions
from regard.recipe import Recipe
from regard.training import Ranks, TrainingSettings
from regard.workflow import check_recipe, evaluator, load_recipe, settings_of


class TestCheckRecipe:
    def test_what_only_building_shows(self, folder):
        """Heads that do not divide the width are found before any data are read, with the line."""
        (folder / "train.source").unlink()
        for stack in ("", "decoder."):
            text = (
                (folder / "tiny.toml")
                .read_text()
                .replace("model.layer.attention", f"model.{stack}layer.attention")
            )
            (folder / "odd.toml").write_text(text.replace("num_heads = 2", "num_heads = 3"))
            key = rf"odd\.toml:8: model\.{stack}layer\.attention\.num_heads: 3 heads do not divide"
            with pytest.raises(RecipeError, match=key):
                workflow.train("odd.toml")
        with pytest.raises(RecipeError, match=r"command line: model\.layer\.attention\.num_heads"):
            workflow.train("tiny.toml", ["model.layer.attention.num_heads=3"])
        assert not (folder / "runs").exists()

    def test_a_model_larger_than_memory(self, folder):
        with pytest.raises(
            RecipeError, match="model: the model is larger than this machine's memory"
        ):
            check_recipe(
                load_recipe("tiny.toml", ["model.layer.feed_forward.d_ff=100000000000000"])
            )

    def test_it_leaves_the_generators_alone(self, folder):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        check_recipe(load_recipe("tiny.toml"))
        assert torch.equal(torch.rand(1), expected)

    def test_every_built_in_recipe(self, folder):
        from regard.recipe import builtin_names

        for name in builtin_names():
            words = [
                f"data.{split}.{side}=x"
                for split in ("train", "valid")
                for side in ("source", "target")
            ]
            check_recipe(load_recipe(name, words))


class TestLoadRecipe:
    def test_a_run_directory_is_a_recipe(self, folder):
        run = workflow.train("tiny.toml", run="run")
        loaded = load_recipe("run", {"training.seed": 5})
        assert loaded.settled
        assert (loaded.training.seed, loaded.model["d_model"]) == (5, 8)
        assert run.result.step == 2

    def test_a_directory_called_as_a_built_in_recipe_is_none(self, tmp_path, monkeypatch):
        """Data lie in ``scan/``: the recipe `scan` keeps its preset."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "scan").mkdir()
        loaded = load_recipe("scan")
        assert not loaded.settled
        assert loaded.model_config_for({"vocab_size": 9}).d_model == 128

    def test_the_tokenizer_comes_with_the_weights(self, folder):
        workflow.train("tiny.toml", run="run")
        text = (folder / "tiny.toml").read_text()
        text = text.replace('tokenizer.kind = "words"\n', "").replace('model.preset = "tiny"', "")
        (folder / "bare.toml").write_text(text)
        loaded = load_recipe("bare.toml", {"model.start_from": "run"})
        assert loaded.tokenizer.kind == "words"
        with pytest.raises(RecipeError, match=r"command line: tokenizer\.kind: is 'chars' here"):
            load_recipe("bare.toml", ["model.start_from=run", "tokenizer.kind=chars"])

    def test_a_recipe_object_is_taken_as_it_is(self, folder):
        loaded = Recipe.load("tiny.toml")
        assert load_recipe(loaded) is loaded
        assert load_recipe(loaded, {"training.seed": 4}).training.seed == 4


class TestWhatIsKept:
    def test_the_resolved_recipe_says_everything(self, folder):
        workflow.train(
            "tiny.toml", {"training.precision": "auto", "training.threads": 0}, run="run"
        )
        kept = Recipe.load("run", settled=True)
        assert kept.model["vocab_size"] == 17
        assert kept.model["encoder"]["layer"]["attention"]["num_heads"] == 2
        assert kept.training.precision in ("float32", "bfloat16")
        assert kept.training.device == ("cuda" if torch.cuda.is_available() else "cpu")
        assert kept.training.threads >= 1

    def test_the_environment(self, folder):
        workflow.train("tiny.toml", run="run")
        kept = json.loads((folder / "run" / "environment.json").read_text())
        assert (kept["precision"], kept["threads"], kept["ranks"]) == ("float32", 1, 1)
        assert set(kept["data"]) == {"train", "valid"}
        assert kept["native"] == native.loaded() == native.load()

    def test_without_validation_data(self, folder):
        (folder / "bare.toml").write_text(
            "".join(
                line
                for line in (folder / "tiny.toml").read_text().splitlines(keepends=True)
                if "data.valid" not in line
            )
        )
        run = workflow.train("bare.toml", run="run")
        assert run.result.scores == {}
        assert "Validation data: `none`" in (folder / "run" / "README.md").read_text()

    def test_the_default_directory(self, folder):
        assert workflow.train("tiny.toml").path.as_posix() == "runs/tiny"
        assert workflow.train("runs/tiny", resume=True).path.as_posix() == "runs/tiny"
        again = workflow.train("runs/tiny", {"training.seed": 2}, run="runs/other")
        assert again.path.as_posix() == "runs/other"

    def test_a_preparation_that_fails_leaves_nothing(self, folder):
        (folder / "valid.target").write_text("1\n")
        for _ in range(2):
            with pytest.raises(Exception, match="parallel files need as many lines"):
                workflow.train("tiny.toml", run="run")
            assert not (folder / "run").exists()

    def test_a_preparation_that_is_interrupted_can_go_on(self, folder):
        def stop(line):
            if "preparing" in line:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            workflow.train("tiny.toml", run="run", say=stop)
        assert (folder / "run").exists()
        with pytest.raises(RunError, match="--resume"):
            workflow.train("tiny.toml", run="run")
        assert workflow.train("tiny.toml", run="run", resume=True).result.step == 2


class TestEvaluator:
    def ready(self, folder, **settings):
        (folder / "made").mkdir(exist_ok=True)
        recipe = load_recipe("tiny.toml", settings)
        ready = workflow.make_ready(recipe, folder / "made", lambda _: None)
        return ready, workflow.build_model(recipe, ready.task, ready.settings)

    def test_losses_are_cheap(self, folder, monkeypatch):
        ready, model = self.ready(folder, **{"evaluation.samples": 0})
        monkeypatch.setattr(type(ready.task), "predict", None)  # no decoding
        report = evaluator(ready.task, ready.splits, ready.settings)(model)
        assert set(report.scores) == {"loss", "nll", "perplexity"}
        assert report.samples == ()

    def test_a_score_decodes(self, folder):
        ready, model = self.ready(folder, **{"evaluation.metric": "bleu", "evaluation.samples": 2})
        report = evaluator(ready.task, ready.splits, ready.settings)(model)
        assert {"loss", "bleu", "chrf", "exact_match"} <= set(report.scores)
        assert [set(sample) for sample in report.samples] == [{"source", "target", "output"}] * 2

    def test_the_width_reaches_the_schedule(self, folder):
        ready, model = self.ready(folder)
        assert workflow.with_width(ready.settings, model).schedule.d_model == 8

    def test_the_same_seed_is_the_same_model(self, folder):
        ready, model = self.ready(folder)
        again = workflow.build_model(ready.recipe, ready.task, ready.settings)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            assert torch.equal(one, other)


def test_settings_of(folder):
    settings = settings_of(load_recipe("tiny.toml", {"evaluation.every_steps": 7}))
    assert isinstance(settings, TrainingSettings)
    assert (settings.evaluation.every_steps, settings.checkpoint.every_epochs) == (7, None)
    assert settings.device in ("cpu", "cuda")


def test_fit_needs_no_listener(folder):
    """What `check` does: data prepared once, then trained on in the same run."""
    from regard.run import Run

    recipe = load_recipe("tiny.toml")
    with Run.hold(folder / "run") as run:
        ready = workflow.make_ready(recipe, run.path, lambda _: None)
        workflow.fit(ready, run, ranks=Ranks())
    assert run.result.step == 2


def test_a_run_records_the_plug_in_it_needs(folder, monkeypatch):
    def entry_points(*, group, name):
        there = installed and (group, name) == ("regard.kinds", "positions.spiral")
        return [SimpleNamespace(load=lambda: NoPositions, dist=package)] if there else []

    installed, package = True, SimpleNamespace(name="regard-spiral")
    monkeypatch.setattr(registry, "entry_points", entry_points)
    run = workflow.train("tiny.toml", {"model.positions": "spiral"}, run=folder / "run")
    assert run.environment()["plugins"] == {"positions.spiral": "regard-spiral"}
    assert load(folder / "run").model.config.encoder.positions.kind == "spiral"
    installed = False
    with pytest.raises(RunError, match=r"needs positions\.spiral of the package regard-spiral"):
        load(folder / "run")
