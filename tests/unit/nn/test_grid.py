"""Positions on a grid: torch's interpolation, tokens outside, three axes, mixed sizes."""

import pytest
import torch
from torch.nn import functional as F

from regard.nn import LayerSpec, Padding, PositionSpec, Stack, StackSpec
from regard.nn.positions.grid import Grid, GridOptions
from regard.nn.positions.scheme import GridSize, SchemeSize
from regard.nn.positions.sinusoidal import sinusoids

CPU = torch.device("cpu")


def scheme(*shape, before=1, after=2, every_layer=False, layers=3):
    torch.manual_seed(0)
    size = SchemeSize(8, 4, 2, 99, layers, GridSize(shape, before, after))
    return Grid(size, GridOptions(every_layer=every_layer)).double()


def vectors(grid, size, layer=0):
    return grid.add(torch.zeros(1, size.tokens, 8).double(), grid.places(size, CPU), layer)[0]


@torch.no_grad()
@pytest.mark.parametrize("other", [(9, 4), (5, 7), (3, 14), (1, 1), (10, 14)])
def test_another_size_is_torchs_bicubic_interpolation(other):
    grid = scheme(5, 7, every_layer=True)
    for layer in range(3):
        table = grid.weight if layer == 0 else grid.further[layer - 1]
        made = vectors(grid, GridSize(other, 1, 2), layer)
        patches = table[1:-2].T.reshape(1, 8, 5, 7)
        truth = F.interpolate(patches, size=other, mode="bicubic").flatten(2)[0].T
        torch.testing.assert_close(made[1:-2], truth)
        assert torch.equal(made[:1], table[:1])
        assert torch.equal(made[-2:], table[-2:])


@torch.no_grad()
def test_a_start_of_sinusoids():
    """Each axis has half of the width, tokens outside of the grid begin at random."""
    size = SchemeSize(9, 4, 2, 99, 1, GridSize((5, 7), 1, 2))
    table = Grid(size, GridOptions(start="sinusoidal")).weight
    rows, columns = sinusoids(5, 4), sinusoids(7, 4)
    for row in range(5):
        for column in range(7):
            place = torch.cat([rows[row], columns[column], torch.zeros(1)])
            assert torch.equal(table[1 + 7 * row + column], place)
    assert 0 < table[0].abs().max() < 0.1
    assert 0 < table[-2:].abs().max() < 0.1


@torch.no_grad()
def test_the_size_trained_on_is_the_table():
    grid = scheme(5, 7)
    assert torch.equal(vectors(grid, grid.grid), grid.weight)
    assert grid.places(grid.grid, CPU).shape == (1, 38)
    place = torch.cartesian_prod(torch.arange(5), torch.arange(7))
    said = torch.stack([place, torch.tensor([5, 7]).expand_as(place)], dim=-1)[None]
    made = grid.add(torch.zeros(1, 35, 8).double(), said, 0)[0]
    assert torch.equal(made, grid.weight[1:-2])  # no rounding where nothing is between


@torch.no_grad()
def test_three_axes_interpolate_one_after_the_other():
    grid = scheme(2, 3, 4, before=0, after=0)
    made = vectors(grid, GridSize((3, 5, 2))).view(3, 5, 2, 8)
    table = grid.weight.view(2, 3, 4, 8)
    flat = F.interpolate(table.permute(0, 3, 1, 2), size=(5, 2), mode="bicubic")  # [2, 8, 5, 2]
    deep = flat.permute(1, 2, 3, 0).reshape(1, 80, 2, 1)  # frames and one column
    deep = F.interpolate(deep, size=(3, 1), mode="bicubic").view(8, 5, 2, 3)
    torch.testing.assert_close(made, deep.permute(3, 1, 2, 0))


@torch.no_grad()
def test_grids_of_two_sizes_share_a_batch():
    spec = StackSpec(2, PositionSpec.from_settings({"kind": "grid"}, "positions"), LayerSpec())
    trained = GridSize((3, 3), 1)
    stack = Stack(spec, 16, max_positions=10, input_dropout=0.0, grid=trained).double().eval()
    sizes = GridSize((2, 5), 1), GridSize((4, 2), 1)
    places = [stack.positions.places(size, CPU) for size in sizes]
    states = [torch.randn(1, size.tokens, 16).double() for size in sizes]
    longest = max(size.tokens for size in sizes)
    real = torch.arange(longest) < torch.tensor([[size.tokens] for size in sizes])
    padded = torch.cat([F.pad(x, (0, 0, 0, longest - x.shape[1]), value=9.0) for x in states])
    where = torch.cat([F.pad(x, (0, 0, 0, 0, 0, longest - x.shape[1])) for x in places])
    made = stack(padded, mask=Padding(real), positions=where)
    for row, (size, x, place) in enumerate(zip(sizes, states, places, strict=True)):
        alone = stack(x, mask=Padding(torch.ones(1, size.tokens).bool()), positions=place)
        torch.testing.assert_close(made[row, : size.tokens], alone[0], rtol=0, atol=1e-12)


def test_a_text_is_one_axis():
    grid = Grid(SchemeSize(8, 4, 2, 12), GridOptions())
    assert grid.weight.shape == (12, 8)
    states = torch.zeros(2, 3, 8)
    places = torch.tensor([[0, 1, 2], [4, 5, 11]])
    assert torch.equal(grid.add(states, places, 0), grid.weight[places])
    assert grid.add(states, places, 1) is states


def test_gradients_reach_the_table_through_the_mixture():
    grid, size = scheme(3, 4), GridSize((5, 2), 1, 2)
    states, places = torch.zeros(1, 13, 8).double(), grid.places(size, CPU)
    grid.forward = grid.add

    def mixed(weight):
        return torch.func.functional_call(grid, {"weight": weight}, (states, places, 0))

    assert torch.autograd.gradcheck(mixed, (grid.weight.detach().clone().requires_grad_(),))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_floats(dtype):
    grid, size = scheme(3, 4), GridSize((5, 2), 1, 2)
    truth = vectors(grid, size)
    narrow = grid.to(dtype)
    made = narrow.add(torch.zeros(1, 13, 8, dtype=dtype), narrow.places(size, CPU), 0)[0]
    assert made.dtype == dtype
    torch.testing.assert_close(made.double(), truth, rtol=0, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("every_layer", [False, True])
def test_tables_of_another_size_are_interpolated(every_layer):
    theirs = scheme(3, 4, before=1, after=1, every_layer=True)
    size = SchemeSize(8, 4, 2, 99, 3, GridSize((6, 5), 1, 4))
    own = Grid(size, GridOptions(every_layer=every_layer)).double()
    drawn = {name: table.clone() for name, table in own.named_parameters()}
    made = own.interpolated(theirs)
    assert made.keys() == drawn.keys()
    for layer in range(3 if every_layer else 1):
        table, before = (
            found["weight"] if layer == 0 else found["further"][layer - 1]
            for found in (made, drawn)
        )
        truth = vectors(theirs, GridSize((6, 5), 1, 1), layer)
        torch.testing.assert_close(table[:32], truth)  # class token, patches, one detection token
        assert torch.equal(table[32:], before[32:])
    assert own.interpolated(scheme(2, 3, 4)) == {}
