"""Opening runs: which weights, how, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file

from regard import registry, workflow
from regard.errors import CheckpointError, InputError, RunError
from regard.load import dtype_of, load, open_task


@pytest.fixture
def run(folder):
    settings = {"training.checkpoint.every_steps": 1, "evaluation.every_steps": 1}
    return workflow.train("tiny.toml", settings, run="run").path


def weights(run, step):
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def held(model):
    return {name: value.detach() for name, value in model.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class TestOpen:
    def test_the_weights_of_a_step(self, run):
        for which, step in ((1, 1), ("1", 1), ("last", 2), (2, 2)):
            _, model, _ = open_task(run, checkpoint=which)
            assert same(held(model), weights(run, step))
            assert not model.training

    def test_the_best_unless_said_otherwise(self, run):
        for step in (1, 2):
            (run / "best").write_text(f'{{"step": {step}}}')
            assert same(held(load(run).model), weights(run, step))
        (run / "best").unlink()
        assert same(held(load(run).model), weights(run, 2))

    def test_precision(self, run):
        for name, dtype in {
            None: torch.float32,
            "auto": torch.float32,
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
        }.items():
            model = load(run, precision=name).model
            assert {value.dtype for value in model.parameters()} == {dtype}
        text = (run / "recipe.toml").read_text()
        head, _, rest = text.partition("[decoding]")
        rest = rest.replace('precision = "auto"', 'precision = "bfloat16"', 1)
        (run / "recipe.toml").write_text(f"{head}[decoding]{rest}")
        assert next(load(run).model.parameters()).dtype == torch.bfloat16

    def test_wrong_words_cost_nothing(self, run, monkeypatch):
        """They are refused before a model is built."""
        monkeypatch.setattr(registry, "family", None)
        with pytest.raises(InputError, match="precision: there is no 'half'"):
            load(run, precision="half")
        with pytest.raises(InputError, match="device: there is no device 'tpu'"):
            load(run, device="tpu")

    def test_dtypes(self):
        assert dtype_of("bfloat16") is torch.bfloat16

    def test_what_is_no_run(self, run, tmp_path):
        with pytest.raises(RunError, match="no such run"):
            load(tmp_path / "nowhere")
        with pytest.raises(RunError, match="a file, not a run"):
            load("tiny.toml")
        (run / "tokenizer.json").unlink()
        with pytest.raises(RunError, match="no tokenizer"):
            load(run)

    def test_a_tensor_too_few(self, run):
        text = (run / "recipe.toml").read_text()
        (run / "recipe.toml").write_text(text.replace("num_layers = 1", "num_layers = 2"))
        with pytest.raises(CheckpointError, match=r"does not fit the model: .*layers\.1.*missing"):
            load(run)
