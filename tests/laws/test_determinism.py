"""Law: the same seed gives the same model, the same pass and the same gradients, bit by bit."""

import torch

from ._cases import law


def trace(case, seed):
    """Output and gradients of one training pass with dropout, everything drawn from one seed."""
    model = case.model(torch.float32, seed=seed, **dict.fromkeys(case.dropouts, 0.2)).train()
    example = case.example()
    made = case.everything(model, example)
    made.square().sum().backward()
    return [made.detach(), *(p.detach() for p in model.parameters()), *grads(model)]


def grads(model):
    return [parameter.grad for parameter in model.parameters()]


@law(every=5, pairs=False)
def test_a_seed_decides_everything(case):
    one, two = trace(case, 3), trace(case, 3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(one, two, strict=True))
    assert not torch.equal(one[0], trace(case, 4)[0])


@law()
@torch.no_grad()
def test_dropout_draws_in_training_alone(case):
    model = case.model(**dict.fromkeys(case.dropouts, 0.2))
    example = case.example()
    assert torch.equal(case.everything(model, example), case.everything(model, example))
    model.train()
    assert not torch.equal(case.everything(model, example), case.everything(model, example))


@law(every=5, pairs=False)
@torch.no_grad()
def test_every_dropout_setting_does_something(case):
    """One at a time, each changes the output in training."""
    example = case.example()
    for name in case.dropouts:
        only = {**dict.fromkeys(case.dropouts, 0.0), name: 0.5}
        model = case.model(**only)
        quiet = case.everything(model, example)
        assert not torch.equal(case.everything(model.train(), example), quiet), name
    model = case.model(**dict.fromkeys(case.dropouts, 0.0))
    quiet = case.everything(model, example)
    assert torch.equal(case.everything(model.train(), example), quiet)
