"""Law: what is saved and loaded is the same bits, tied tensors stated once."""

import pytest
import torch
from safetensors import safe_open

from regard.errors import CheckpointError
from regard.training.checkpoints import CheckpointStore
from regard.training.state import load_weights, model_tensors

from ._cases import law


def save(model, directory):
    weights = dict(model.named_parameters())
    return CheckpointStore(directory).save(1, {"model": model_tensors(model, weights)}, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@law()
def test_a_model_comes_back_in_the_same_bits(case, dtype, tmp_path):
    model = case.model(dtype, seed=1)
    checkpoint = save(model, tmp_path)
    other = case.model(dtype, seed=2)
    load_weights(other, checkpoint.tensors(), str(checkpoint.path))
    for (name, ours), (_, theirs) in zip(
        other.state_dict().items(), model.state_dict().items(), strict=True
    ):
        assert ours.dtype == theirs.dtype == dtype
        assert torch.equal(ours, theirs), name
    example = case.example()
    assert torch.equal(case.run(other, example), case.run(model, example))


@law()
def test_tied_tensors_are_stated_once_and_stay_tied(case, tmp_path):
    model = case.model(torch.float32)
    checkpoint = save(model, tmp_path)
    with safe_open(checkpoint.file("model"), "pt") as file:
        names = set(file.keys())
    assert names == {name for name, _ in model.named_parameters()}
    every = dict(model.named_parameters(remove_duplicate=False))
    other = case.model(torch.float32, seed=2)
    load_weights(other, checkpoint.tensors(), "")
    for name, parameter in other.named_parameters(remove_duplicate=False):
        same = [n for n, p in every.items() if p is every[name]]
        assert all(other.get_parameter(n) is parameter for n in same)


@law()
def test_a_checkpoint_of_another_shape_is_refused(case, tmp_path):
    checkpoint = save(case.model(torch.float32), tmp_path)
    wider = case.model(torch.float32, d_model=32)
    with pytest.raises(CheckpointError, match="has shape"):
        load_weights(wider, checkpoint.tensors(), "")
