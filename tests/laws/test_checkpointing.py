"""Law: recomputing layers in the backward pass changes no gradient, dropout on."""

import torch

from regard.nn import Layer, kernels

from ._cases import law


def gradients(case, model, example):
    """Output and gradients of one pass from the same seed; how often layers ran."""
    runs = []
    hooks = [
        module.register_forward_pre_hook(lambda *_: runs.append(1))
        for module in model.modules()
        if isinstance(module, Layer)
    ]
    torch.manual_seed(7)
    model.zero_grad()
    with kernels.use(case.kernel):  # the backward pass runs the layers again, by the same kernel
        made = case.everything(model, example)
        made.square().sum().backward()
    for hook in hooks:
        hook.remove()
    return made.detach(), [p.grad.clone() for p in model.parameters()], len(runs)


@law(pairs=False)
def test_with_operators_in_c_too(case):
    checkpointed_gradients_are_the_same(case, torch.float32, 1e-4)


@law(pairs=False)
def test_checkpointed_gradients_are_the_same(case):
    checkpointed_gradients_are_the_same(case, torch.float64, 1e-12)


def checkpointed_gradients_are_the_same(case, dtype, bound):
    model = case.model(dtype, **dict.fromkeys(case.dropouts, 0.3)).train()
    example = case.masked()
    plain, expected, runs = gradients(case, model, example)
    again, _, _ = gradients(case, model, example)
    assert torch.equal(plain, again)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
    made, found, more_runs = gradients(case, model, example)
    assert more_runs == 2 * runs > 0
    assert torch.equal(made, plain)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@law()
def test_checkpointing_rests_in_evaluation(case):
    model, example = case.model(), case.example()
    plain, _, runs = gradients(case, model, example)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
    made, _, same_runs = gradients(case, model, example)
    assert same_runs == runs
    assert torch.equal(made, plain)
