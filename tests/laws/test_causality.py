"""Law: a later token changes no earlier output."""

import torch

from ._cases import law, others


@law("causal")
def test_a_later_token_changes_no_earlier_output(case):
    model, example = case.model(), case.example(batch=2, length=6)
    name = case.causal_input
    tokens = example[name]
    before = case.run(model, example)
    for place in range(1, tokens.shape[1]):
        changed = tokens.clone()
        changed[:, place:] = others(tokens[:, place:], high=int(tokens.max()) + 1)
        after = case.run(model, {**example, name: changed})
        torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-12)
        assert not torch.allclose(after[:, place], before[:, place], atol=1e-6)


@law("causal")
def test_what_is_not_causal_is_seen_whole(case):
    model, example = case.model(), case.example(batch=2, length=6)
    before = case.run(model, example)
    for name in case.paddable:
        if name == case.causal_input:
            continue
        changed = example[name].clone()
        changed[:, -1] = others(changed[:, -1], high=int(changed.max()) + 1)
        after = case.run(model, {**example, name: changed})
        difference = (after - before).abs().flatten(2).amax(dim=-1)  # [B, T]
        assert (difference > 1e-9).all()
