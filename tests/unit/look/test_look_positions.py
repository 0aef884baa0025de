import pytest
import torch

from regard.errors import RegardError
from regard.look.picture import Picture
from regard.look.positions import MAPS, positions
from regard.look.schemes import mosaic
from regard.models import T5, Transformer, TransformerConfig, ViT, ViTConfig
from regard.models.t5 import T5Config
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


def t5():
    torch.manual_seed(0)
    return T5(T5Config.preset("tiny", vocab_size=9))


def test_buckets_are_drawn_to_the_last_by_head():
    model = t5()
    encoder, decoder = positions(model)
    scheme = model.encoder.positions
    furthest = scheme.options.max_distance
    assert (encoder.kind, encoder.door, encoder.table) == ("Buckets", "bias", None)
    assert encoder.by_head.shape == (scheme.size.num_heads, 2 * furthest + 1)
    # one learned number for each head and distance: no mean is taken of different ones
    torch.testing.assert_close(encoder.by_head.T, scheme.weight.detach()[scheme.by_distance])
    torch.testing.assert_close(encoder.by_offset, encoder.by_head.mean(dim=0))
    causal = decoder.by_head[:, furthest:]
    assert torch.allclose(causal, causal[:, :1])  # of what is ahead none is told apart


def vit(**overrides):
    torch.manual_seed(0)
    base = {"image_size": 24, "patch_size": 8, "d_model": 16, "num_layers": 1}
    small = {"layer.attention.num_heads": 2, "layer.feed_forward.d_ff": 8}
    return ViT(ViTConfig.preset("tiny-16", overrides=base | small | overrides))


@pytest.mark.parametrize(
    ("overrides", "before"),
    [({}, 1), ({"pooling": "mean"}, 0), ({"detections": 3}, 1)],
)
def test_a_map_for_each_patch(overrides, before):
    model = vit(image_width=32, **overrides)
    (found,) = positions(model)
    assert (found.kind, found.grid, found.first) == ("Grid", (3, 4), before)
    table = model.encoder.positions.weight.detach()
    assert found.table.shape == table.shape  # all tokens, also beyond 64
    patches = table[before : before + 12].view(3, 4, -1)
    assert found.maps.shape == (3, 4, 3, 4)
    for i, j, k, n in ((0, 1, 2, 3), (2, 0, 2, 0), (1, 3, 1, 2)):
        expected = torch.cosine_similarity(patches[i, j], patches[k, n], dim=0)
        torch.testing.assert_close(found.maps[i, j, k, n], expected)
    down, across = found.by_axis
    assert (len(down), len(across)) == (5, 7)
    neighbors = [found.maps[i, j, i, j + 1] for i in range(3) for j in range(3)]
    torch.testing.assert_close(across[4], torch.stack(neighbors).mean())


def test_of_many_patches_some_from_everywhere():
    (found,) = positions(vit(image_size=8 * 14, image_width=8 * 7))
    assert found.maps.shape == (MAPS, 7, 14, 7)
    assert found.maps[-1, -1, -1, -1] == pytest.approx(1.0)


def test_of_a_clip_the_middle_frame():
    (found,) = positions(vit(num_frames=4, patch_frames=2))
    assert (found.grid, found.first) == ((3, 3), 1 + 9)


def test_maps_are_laid_out_as_the_patches():
    maps = torch.arange(2 * 3 * 2 * 3.0).view(2, 3, 2, 3)
    image = mosaic(maps)
    assert image.shape == (5, 11)
    assert image[2].isnan().all()
    assert image[:, [3, 7]].isnan().all()
    assert torch.equal(image[3:, 4:7], maps[1, 1])


@pytest.mark.parametrize("made", [model, t5, vit])
def test_every_kind_is_drawn(made):
    pytest.importorskip("matplotlib")
    found = positions(made())
    picture = Picture(None, positions=found)
    titles = [axes.get_title() for axes in picture.figure().axes]
    for one in found:
        assert f"{one.stack}: {one.kind}, {one.door}" in titles
    (held, *_) = picture.to_dict()["positions"]
    assert (held["maps"] is None) == (held["similarity"] is not None) == (made is not vit)
