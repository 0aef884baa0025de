"""Law: positions are explicit; a shift is a shift for relative schemes; layouts agree."""

import pytest
import torch

from regard.errors import InputError, RecipeError
from regard.nn import (
    Causal,
    Documents,
    Full,
    LayerSpec,
    PositionSpec,
    Prefix,
    Stack,
    StackSpec,
    sinusoids,
)

from ._cases import is_relative, kinds

KINDS = kinds("positions")
EXACT = {"rtol": 0, "atol": 1e-12}

# Figures of the field for d_model = 8, at their two decimals (truncated, some rounded).
TABLE = [
    [0.00, 1.00, 0.00, 1.00, 0.00, 1.00, 0.00, 1.00],
    [0.84, 0.54, 0.10, 0.99, 0.01, 1.00, 0.00, 1.00],
    [0.91, -0.42, 0.20, 0.98, 0.02, 1.00, 0.00, 1.00],
    [0.14, -0.99, 0.30, 0.95, 0.03, 1.00, 0.00, 1.00],
]


def make_stack(positions, **settings):
    spec = StackSpec(2, PositionSpec.from_settings(positions, "positions"), LayerSpec())
    settings = {"max_positions": 40, "input_dropout": 0.0, **settings}
    return Stack(spec, 16, **settings).double().eval()


def states(length=6):
    return torch.randn(2, length, 16, dtype=torch.float64)


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_positions_are_counted_from_zero_by_default(positions):
    stack, x = make_stack(positions), states()
    explicit = stack(x, mask=Causal(), positions=torch.arange(6).expand(2, 6))
    torch.testing.assert_close(explicit, stack(x, mask=Causal()), **EXACT)


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_tokens_may_stand_in_any_slot(positions):
    """Where everything is seen, places in the tensor mean nothing beside explicit positions."""
    stack, x = make_stack(positions), states()
    whole = stack(x, mask=Full())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = stack(x[:, order], mask=Full(), positions=order[None])
    torch.testing.assert_close(moved, whole[:, order], **EXACT)


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_a_shift_is_a_shift(positions):
    """Relative schemes see differences alone; what is added to the states sees places."""
    stack, x = make_stack(positions), states()
    here = stack(x, mask=Causal(), positions=torch.arange(6)[None])
    there = stack(x, mask=Causal(), positions=torch.arange(6)[None] + 17)
    if is_relative(stack.positions):
        torch.testing.assert_close(there, here, **EXACT)
    else:
        assert not torch.allclose(there, here, atol=1e-3)


@pytest.mark.parametrize("positions", KINDS, ids=str)
@pytest.mark.parametrize("own", [Full(), Causal()], ids=["full", "causal"])
def test_documents_packed_in_a_row_are_as_if_alone(positions, own):
    stack, x = make_stack(positions, mask=own), states(7)
    ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 2, 2]])
    places = torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 0, 1, 2, 0, 1]])
    packed = stack(x, mask=Documents(ids), positions=places)
    for row in range(2):
        for document in ids[row].unique():
            here = ids[row] == document
            alone = stack(x[row : row + 1, here], mask=Full())[0]
            torch.testing.assert_close(packed[row, here], alone, **EXACT)


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_a_prefix_is_read_whole_and_the_rest_from_left_to_right(positions):
    stack, x = make_stack(positions), states(6)
    lengths = torch.tensor([3, 0])
    made = stack(x, mask=Causal() | Prefix(lengths))
    other = x.clone()
    other[:, 4:] += 1.0
    changed = stack(other, mask=Causal() | Prefix(lengths))
    torch.testing.assert_close(changed[:, :4], made[:, :4], **EXACT)
    other = x.clone()
    other[:, 2] += 1.0 + torch.arange(16.0)
    changed = stack(other, mask=Causal() | Prefix(lengths))
    moved = (changed - made).abs().amax(-1) > 1e-9  # [B, T]
    assert moved.tolist() == [[True] * 6, [False, False, True, True, True, True]]


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_order_matters_unless_there_are_no_positions(positions):
    stack, x = make_stack(positions), states()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    same = torch.allclose(stack(x[:, order], mask=Full()), stack(x, mask=Full())[:, order])
    assert same == (positions["kind"] == "none")


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_a_text_longer_than_the_model_is_refused(positions):
    stack = make_stack(positions, max_positions=5)
    stack(states(5), mask=Full())
    with pytest.raises(InputError, match=r"6 tokens.* 5"):
        stack(states(6), mask=Full())


def test_sinusoids_are_the_published_table():
    table = sinusoids(4, 8)
    torch.testing.assert_close(table, torch.tensor(TABLE), rtol=0, atol=0.0101)
    for row, printed in zip(table.tolist(), TABLE, strict=True):
        for ours, two_decimals in zip(row, printed, strict=True):
            assert two_decimals in {int(ours * 100) / 100, round(ours, 2)}


def test_sinusoids_are_the_formula():
    table = sinusoids(50, 6, base=100.0)
    for place in (0, 1, 7, 49):
        for i in range(3):
            angle = torch.tensor(place / 100.0 ** (2 * i / 6), dtype=torch.float64)
            assert table[place, 2 * i].item() == pytest.approx(angle.sin().item(), abs=1e-7)
            assert table[place, 2 * i + 1].item() == pytest.approx(angle.cos().item(), abs=1e-7)


@pytest.mark.parametrize("d_model", [8, 7])
def test_layouts_differ_by_a_permutation(d_model):
    interleaved = sinusoids(20, d_model)
    halves = sinusoids(20, d_model, layout="halves")
    order = [*range(0, d_model, 2), *range(1, d_model, 2)]
    assert torch.equal(halves, interleaved[:, order])


def test_far_positions_are_exact():
    """Angles in float32 would be off by 1e-3 and more here."""
    row = sinusoids(100_001, 4)[100_000]
    angles = torch.tensor([100_000.0, 1_000.0], dtype=torch.float64)
    truth = torch.stack([angles.sin(), angles.cos()], dim=1).flatten()
    torch.testing.assert_close(row.double(), truth, rtol=0, atol=1e-7)


def test_a_shift_of_sinusoids_is_linear():
    """Section 3.5: PE(pos + k) is a rotation of PE(pos), the same for every pos."""
    table = sinusoids(30, 8).double()
    rates = 10_000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    for k in (1, 5):
        sines, cosines = (k * rates).sin(), (k * rates).cos()
        even, odd = table[:-k, 0::2], table[:-k, 1::2]
        shifted = torch.stack([even * cosines + odd * sines, odd * cosines - even * sines], dim=-1)
        torch.testing.assert_close(shifted.flatten(1), table[k:], rtol=0, atol=1e-6)


def test_options_are_checked():
    with pytest.raises(RecipeError, match=r"positions\.layuot(.|\n)*positions\.layout"):
        PositionSpec.from_settings({"kind": "sinusoidal", "layuot": "halves"}, "positions")
    with pytest.raises(RecipeError, match="layout"):
        PositionSpec.from_settings({"kind": "sinusoidal", "layout": "thirds"}, "positions")
    with pytest.raises(RecipeError, match="sinusoidal"):
        PositionSpec.from_settings({"kind": "sinusoidel"}, "positions")
    with pytest.raises(RecipeError, match="base"):
        PositionSpec.from_settings({"kind": "learned", "base": 10.0}, "positions")
