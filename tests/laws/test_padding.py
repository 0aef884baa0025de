"""Law: what padding holds, and on which side it stands, changes nothing."""

import itertools

import pytest
import torch

from regard.nn import LayerSpec, Padding, PositionSpec, Stack, StackSpec

from ._cases import kinds, law, real_part

EXACT = {"rtol": 0, "atol": 1e-12}


@law()
def test_padding_on_the_right_changes_nothing(case):
    model, example = case.model(), case.example()
    alone = case.run(model, example)
    lengths = [7] * 3
    inputs = case.paddable
    for count in range(1, len(inputs) + 1):
        for names in itertools.combinations(inputs, count):
            for seed in (1, 2):
                padded = case.padded(example, 3, names=names, seed=seed)
                made = case.run(model, padded)
                for ours, truth in zip(
                    real_part(made, lengths), real_part(alone, lengths), strict=True
                ):
                    torch.testing.assert_close(ours, truth, **EXACT)


@law()
def test_padding_on_the_left_changes_nothing(case):
    model, example = case.model(), case.example()
    if not case.relative(model) and not case.accepts("positions"):
        return  # this family counts places from the left; `test_stacks_take_padding_on_the_left`
    alone = case.run(model, example)
    for seed in (1, 2):
        padded = case.padded(example, 3, side="left", seed=seed)
        if case.accepts("positions"):
            padded["positions"] = (padded["mask"].cumsum(1) - 1).clamp_min(0)
        made = case.run(model, padded)
        if made.ndim > 2:
            made = made[:, -alone.shape[1] :]
        torch.testing.assert_close(made, alone, **EXACT)


@law()
def test_what_padding_holds_gets_no_gradient(case):
    model, example = case.model(), case.example()
    if not case.paddable:
        return  # what has a size of its own: see `test_what_a_mask_hides_changes_nothing_else`
    padded = case.padded(example, 3)
    seen = {}

    def note(module, arguments, output):
        seen.setdefault(module, []).append(output)
        output.retain_grad()

    embeddings = [m for name, m in model.named_modules() if name.endswith("embedding")]
    hooks = [module.register_forward_hook(note) for module in set(embeddings)]
    made = case.run(model, padded)
    sum(row.square().sum() for row in real_part(made, [7] * 3)).backward()
    for hook in hooks:
        hook.remove()
    for output in itertools.chain.from_iterable(seen.values()):
        assert not output.grad[:, -3:].any()
        assert output.grad[:, :-3].any()


@law()
@torch.no_grad()
def test_what_a_mask_hides_changes_nothing_else(case):
    """Of the outputs no more change than there are hidden places; one for the whole row never."""
    model, example = case.model(), case.masked()
    masks = [value for name, value in example.items() if name.endswith("mask")]

    def change(module, arguments, output):
        real = next(mask for mask in masks if mask.shape == output.shape[:2])
        return output + torch.randn_like(output) * ~real[..., None]

    before = case.run(model, example)
    embeddings = {m for name, m in model.named_modules() if name.endswith("embedding")}
    for module in embeddings:
        module.register_forward_hook(change)
    after = case.run(model, example)
    assert embeddings
    if before.ndim < 3:
        torch.testing.assert_close(after, before, **EXACT)
    else:
        changed = (after - before).abs().amax(-1) > 1e-12  # [B, T]
        assert (changed.sum(1) <= (~masks[-1]).sum(1)).all()


@law()
def test_a_row_of_padding_alone_harms_nobody(case):
    model, example = case.model(), case.example()
    alone = case.everything(model, {name: x[:2] for name, x in example.items()})
    masks = case.masks()
    for mask in masks.values():
        mask[2] = False
    made = case.everything(model, {**example, **masks})
    torch.testing.assert_close(made[:2], alone, **EXACT)
    assert made.isfinite().all()
    made.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("positions", kinds("positions"), ids=str)
def test_stacks_take_padding_on_the_left(positions):
    spec = StackSpec(2, PositionSpec.from_settings(positions, "positions"), LayerSpec())
    stack = Stack(spec, 16, max_positions=20, input_dropout=0.0).double().eval()
    states = torch.randn(2, 5, 16, dtype=torch.float64)
    alone = stack(states, mask=Padding(torch.ones(2, 5).bool()))
    for columns in (1, 4):
        more = torch.randn(2, columns, 16, dtype=torch.float64)
        real = torch.cat([torch.zeros(2, columns), torch.ones(2, 5)], dim=1).bool()
        places = (real.cumsum(1) - 1).clamp_min(0)
        made = stack(torch.cat([more, states], dim=1), mask=Padding(real), positions=places)
        torch.testing.assert_close(made[:, columns:], alone, **EXACT)
