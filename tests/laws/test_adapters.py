"""Laws of adapters and freezing: the start is kept, only what should gets gradients, merged = not.

Over every family and every kind of adapter.
"""

import functools
import json

import pytest
import torch

from regard import registry
from regard.nn.adapters import add_adapters, merge_adapters
from regard.training.checkpoints import CheckpointStore
from regard.training.state import load_weights
from regard.transfer import ADAPTER, load_adapter

from ._cases import law

TARGETS = ["queries", "keys", "values", "output", "contract"]

kinds = functools.partial(pytest.mark.parametrize, "kind", registry.names("adapters"))()


def adapted(case, kind, *, shaken=True, dtype=torch.float64, **more):
    """A model with adapters on many maps; ``shaken``: as if they had been trained."""
    found = registry.kind("adapters", kind)
    model = case.model(dtype, **more)
    before = dict(model.named_parameters())
    add_adapters(model, found, found.Options(targets=TARGETS))
    own = {name: p for name, p in model.named_parameters() if name not in before}
    assert own
    for name, parameter in before.items():
        assert model.get_parameter(name) is parameter  # the very tensor, under its old name
    with torch.no_grad():
        for parameter in own.values() if shaken else ():
            parameter += 0.1 * torch.randn_like(parameter)
    return model, own


@kinds
@law()
def test_new_adapters_change_nothing(case, kind):
    plain = case.model()
    model, _ = adapted(case, kind, shaken=False)
    example = case.example()
    torch.testing.assert_close(
        case.run(model, example), case.run(plain, example), rtol=0, atol=1e-12
    )


@kinds
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@law(pairs=False)
def test_merged_is_adapted(case, kind, dtype, bound):
    model, _ = adapted(case, kind, dtype=dtype)
    example = case.example()
    expected = case.run(model, example)
    names = {name for name, _ in case.model().named_modules()}
    before = case.run(case.model(dtype), example)
    merge_adapters(model)
    assert {name for name, _ in model.named_modules()} == names
    assert (expected - before).abs().max() > 100 * bound
    torch.testing.assert_close(case.run(model, example), expected, rtol=0, atol=bound)


@kinds
@law()
def test_only_what_trains_gets_gradients(case, kind):
    """They are those that it has where everything trains."""

    def gradients(frozen):
        model, own = adapted(case, kind)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in own or not frozen)
        case.run(model, case.example()).square().sum().backward()
        return own, {name: parameter.grad for name, parameter in model.named_parameters()}

    _, every = gradients(frozen=False)
    own, some = gradients(frozen=True)
    for name, gradient in some.items():
        if name in own:
            assert gradient.abs().max() > 0, name
            torch.testing.assert_close(gradient, every[name], rtol=1e-9, atol=1e-12, msg=name)
        else:
            assert gradient is None, name


@kinds
@law(pairs=False)
def test_saved_apart_they_come_back_in_the_same_bits(case, kind, tmp_path):
    model, own = adapted(case, kind, dtype=torch.float32)
    store = CheckpointStore(tmp_path / "checkpoints")
    base = {name: p for name, p in model.named_parameters() if name not in own}
    store.save_base(base)
    spec = {"kind": kind, "targets": TARGETS}
    store.notes = {ADAPTER: json.dumps(spec)}
    saved = store.save(1, {"model": own}, {})
    assert saved.fault() is None
    assert store.base_names() == set(base)
    example = case.example()

    whole, _ = adapted(case, kind, dtype=torch.float32, seed=2)
    load_weights(whole, saved.tensors(), "")
    assert torch.equal(case.run(whole, example), case.run(model, example))

    beside = case.model(torch.float32)  # another copy of the base, and the small file
    load_adapter(beside, saved.file("model"))
    assert torch.equal(case.run(beside, example), case.run(model, example))
