import torch

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
