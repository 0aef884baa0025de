import pytest
import torch

from regard.errors import RegardError
from regard.look.positions import positions
from regard.models import Transformer, TransformerConfig
from regard.nn import PositionScheme, sinusoids


def model(**overrides):
    base = {"d_model": 16, "num_layers": 1, "layer.feed_forward.d_ff": 8, "max_positions": 40}
    return Transformer(TransformerConfig.preset("tiny", vocab_size=9, overrides=base | overrides))


def test_equal_schemes_are_one():
    (found,) = positions(model(), length=32)
    assert (found.stack, found.kind, found.door) == ("encoder + decoder", "Sinusoidal", "added")
    torch.testing.assert_close(found.table, sinusoids(32, 16))


def test_not_longer_than_the_model():
    assert len(positions(model(), length=100)[0].table) == 40


def test_learned_tables_stay_apart():
    made = model(positions="learned")
    first, second = positions(made, length=8)
    assert (first.stack, second.stack) == ("encoder", "decoder")
    torch.testing.assert_close(first.table, made.encoder.positions.weight[:8].detach())


def test_similarity_of_sinusoids_depends_on_the_offset_alone():
    (found,) = positions(model(), length=20)
    assert found.similarity.diagonal().tolist() == pytest.approx([1.0] * 20)
    offset = 3
    rates = 10_000.0 ** (-torch.arange(0, 16, 2) / 16)
    expected = (offset * rates).cos().mean().item()  # the mean of cos(k ω) over the waves
    assert found.similarity.diagonal(offset).tolist() == pytest.approx([expected] * 17, abs=1e-5)
    assert found.by_offset[19 + offset].item() == pytest.approx(expected, abs=1e-5)
    assert len(found.by_offset) == 39


def test_one_stack_without_positions_is_left_out():
    (found,) = positions(model(**{"encoder.positions": "none"}))
    assert found.stack == "decoder"


def test_no_positions_at_all():
    with pytest.raises(RegardError, match="knows no positions"):
        positions(model(positions="none"))


class Turning(PositionScheme):
    """One plane, turned by a radian a position."""

    def prepare(self, positions, dtype):
        return positions

    def turn(self, heads, prepared):
        angle = prepared.to(heads.dtype)[:, None]  # [1, 1, T]
        first, second = heads[..., 0], heads[..., 1]
        turned = heads.clone()
        turned[..., 0] = first * angle.cos() - second * angle.sin()
        turned[..., 1] = first * angle.sin() + second * angle.cos()
        return turned


class Biasing(PositionScheme):
    def bias(self, queries, keys):
        return -(queries[:, None, :, None] - keys[:, None, None, :]).abs().float()


def with_scheme(scheme):
    made = model()
    made.encoder.positions = scheme(made.encoder.positions.size, None)
    made.decoder.positions = scheme(made.decoder.positions.size, None)
    return made


def test_turned_queries_and_keys():
    (found,) = positions(with_scheme(Turning), length=4)
    assert (found.door, found.table) == ("turned", None)
    expected = (2 * torch.tensor(1.0).cos() + 2) / 4  # two of four dimensions turn
    assert found.similarity.diagonal(1).tolist() == pytest.approx([expected.item()] * 3)


def test_bias_on_the_scores():
    (found,) = positions(with_scheme(Biasing), length=3)
    assert found.door == "bias"
    assert found.by_offset.tolist() == [-2.0, -1.0, 0.0, -1.0, -2.0]
