"""Maps of patches brought to another size."""

import pytest
import torch
from torch.nn import functional as F

from regard.nn.patches import PatchEmbedding


@pytest.mark.parametrize(("patch", "larger"), [((4, 4), (8, 8)), ((2, 3), (2, 7)), ((5,), (6,))])
def test_a_patch_drawn_larger_makes_the_same_token(patch, larger):
    theirs, own = PatchEmbedding(3, patch, 8).double(), PatchEmbedding(3, larger, 8).double()
    own.linear.bias.data.copy_(theirs.linear.bias)
    own.linear.weight.data.copy_(own.interpolated(theirs)["linear.weight"])
    pixels = torch.randn(6, 3, *patch, dtype=torch.float64)
    mode = "bilinear" if len(patch) == 2 else "linear"
    drawn = F.interpolate(pixels, larger, mode=mode)
    torch.testing.assert_close(own(drawn), theirs(pixels))


def test_tubelets_have_their_own_length_in_time():
    theirs, own = PatchEmbedding(1, (2, 4, 4), 8).double(), PatchEmbedding(1, (3, 4, 4), 8).double()
    made = own.interpolated(theirs)["linear.weight"].view(8, 3, 4, 4)
    before = theirs.linear.weight.view(8, 2, 4, 4)
    clip = torch.randn(2, 4, 4, dtype=torch.float64)
    flat = clip.flatten(1).T[None]  # [1, pixels, frames]
    longer = F.interpolate(flat, 3, mode="linear")[0].T.view(3, 4, 4)
    torch.testing.assert_close((made * longer).sum((1, 2, 3)), (before * clip).sum((1, 2, 3)))


def test_a_smaller_patch_is_the_nearest_map():
    """Of noise, where an exact one cannot be: no small change of the weight comes closer."""
    theirs, own = PatchEmbedding(1, (8,), 4).double(), PatchEmbedding(1, (3,), 4).double()
    best = own.interpolated(theirs)["linear.weight"]
    shrink = F.interpolate(
        torch.eye(8, dtype=torch.float64)[None, None], (8, 3), mode="bilinear", antialias=True
    )[0, 0]  # [8, 3]

    def apart(weight):  # the mean over noise of the square of the difference of tokens
        return (theirs.linear.weight - weight @ shrink.T).square().sum()

    for _ in range(20):
        assert apart(best) < apart(best + 0.01 * torch.randn_like(best))


@pytest.mark.parametrize("other", [(3, (4, 4), 9), (1, (4, 4), 8), (3, (2, 4, 4), 8)])
def test_other_widths_channels_and_axes_fit_nothing(other):
    assert PatchEmbedding(3, (8, 8), 8).interpolated(PatchEmbedding(*other)) == {}
