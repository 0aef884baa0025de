import pytest
import torch
from torch import nn

from regard import registry
from regard.nn import Linear
from regard.nn.init import Unfilled


def test_nothing_is_drawn_where_weights_will_be_loaded():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with Unfilled():
        made = Linear(3, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert made.weight.shape == (2, 3)
    assert not made.bias.any()  # zeros are still written
    assert Linear(3, 2).weight.any()
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", registry.names("families"))
def test_no_family_draws_there(family):
    made = registry.family(family)
    before = torch.get_rng_state()
    with Unfilled():
        made.model(made.tiny())
    assert torch.equal(torch.get_rng_state(), before)
    made.model(made.tiny())
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "draw",
    [nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.trunc_normal_],
)
def test_a_draw_gives_its_tensor_back(draw):
    weight = torch.zeros(3, 2)
    with Unfilled():
        assert draw(weight) is weight
        assert draw(tensor=weight) is weight
    assert not weight.any()
