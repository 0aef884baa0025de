"""Stacks: what they own, in which order layers run, what they refuse."""

import pytest
import torch
from torch import nn

from regard.errors import InputError
from regard.nn import (
    AttentionSpec,
    Causal,
    Full,
    Layer,
    LayerSpec,
    Learned,
    Memory,
    Padding,
    Rule,
    Sinusoidal,
    Stack,
    StackSpec,
)
from regard.nn.positions.scheme import SchemeSize

D = 8


def make(num_layers=2, *, placement="post", **settings):
    layer = LayerSpec(AttentionSpec(num_heads=2), norm_placement=placement)
    settings = {"max_positions": 16, "input_dropout": 0.0, **settings}
    return Stack(StackSpec(num_layers, layer=layer), D, **settings).double().eval()


def states(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_shapes():
    x, memory = states(2, 5, D), Memory(states(2, 3, 6))
    assert make()(x, mask=Full()).shape == (2, 5, D)
    assert make(d_memory=6)(x, mask=Full(), memory=memory).shape == (2, 5, D)


def test_sublayers_in_the_paper_s_order():
    stack, order = make(d_memory=D), []
    for name, module in stack.named_modules():
        if name.endswith(("self_attention", "cross_attention", "feed_forward")):
            module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    stack(states(1, 3, D), mask=Full(), memory=Memory(states(1, 3, D)))
    parts = ("self_attention", "cross_attention", "feed_forward")
    assert order == [f"layers.{i}.{part}" for i in (0, 1) for part in parts]


def test_pre_norm_stacks_end_in_a_norm():
    pre, post = make(placement="pre"), make()
    assert post.norm is None
    assert pre.norm is not None
    nn.init.constant_(pre.norm.weight, 0.0)
    assert not pre(states(1, 3, D), mask=Full()).any()


def test_without_memory_there_is_no_cross_attention():
    assert all(layer.cross_attention is None for layer in make().layers)
    assert all(layer.cross_attention is not None for layer in make(d_memory=D).layers)


def test_the_stack_s_own_rule_joins_the_batch_s():
    x = states(2, 5, D)
    real = torch.tensor([[True] * 5, [True, True, False, True, True]])
    both = make(mask=Causal())
    plain = make()
    plain.load_state_dict(both.state_dict())
    torch.testing.assert_close(
        both(x, mask=Padding(real)), plain(x, mask=Causal() & Padding(real)), rtol=0, atol=0
    )


def test_the_mask_is_prepared_once_for_all_layers(monkeypatch):
    calls = []
    allows = Causal.allows
    monkeypatch.setattr(Causal, "allows", lambda *args: calls.append(1) or allows(*args))
    rule: Rule = Causal() & Padding(torch.ones(2, 5).bool())
    make(num_layers=4)(states(2, 5, D), mask=rule)
    assert len(calls) == 1


def test_memory_is_seen_by_its_mask():
    stack, x = make(d_memory=6), states(2, 4, D)
    memory, real = states(2, 3, 6), torch.tensor([[True, True, False]] * 2)
    short = stack(x, mask=Full(), memory=Memory(memory[:, :2]))
    masked = stack(x, mask=Full(), memory=Memory(memory, Padding(real)))
    torch.testing.assert_close(masked, short, rtol=0, atol=1e-12)


def test_longer_than_the_model():
    make()(states(1, 16, D), mask=Full())
    with pytest.raises(InputError, match="17 tokens") as error:
        make()(states(1, 17, D), mask=Full())
    assert "max_positions" in str(error.value)


def test_input_dropout_falls_on_states_with_positions():
    stack = make(num_layers=0, input_dropout=0.5).train()
    made = stack(torch.ones(4, 16, D, dtype=torch.float64) * 10, mask=Full())
    assert (made == 0).double().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("scheme", [Sinusoidal, Learned])
def test_positions_enter_at_the_input(scheme, monkeypatch):
    """The door is offered before every layer; these schemes use it once."""
    stack, layers = make(num_layers=3), []
    stack.positions = scheme(SchemeSize(D, 4, 2, 16), scheme.Options()).double()
    add = scheme.add

    def note(self, states, positions, layer):
        added = add(self, states, positions, layer)
        layers.append((layer, torch.equal(added, states)))
        return added

    monkeypatch.setattr(scheme, "add", note)
    stack(states(1, 4, D), mask=Full())
    assert layers == [(0, False), (1, True), (2, True)]


def test_a_layer_alone():
    layer = Layer(LayerSpec(AttentionSpec(num_heads=2)), D)
    names = {name.split(".")[0] for name, _ in layer.named_parameters()}
    assert names == {"self_attention", "feed_forward"}
