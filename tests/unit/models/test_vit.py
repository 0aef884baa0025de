"""ViT: published sizes, what its parts are, other sizes, clips, boxes."""

import pytest
import torch

from regard.errors import InputError, RecipeError
from regard.models import ViT, ViTConfig
from regard.models.vit import FAMILY
from regard.spec import build, resolve

SMALL = {"num_layers": 2, "d_model": 16, "layer.attention.num_heads": 2, "image_size": 16}
PUBLISHED = {
    # with a classifier of 1,000 classes: timm's figures of the paper's and DeiT's models
    "tiny-16": 5_717_416,
    "small-16": 22_050_664,
    "small-32": 22_878_952,
    "base-16": 86_567_656,
    "base-32": 88_224_232,
    "large-16": 304_326_632,
    "large-32": 306_535_400,
}


def small(**more):
    torch.manual_seed(0)
    overrides = {**SMALL, **{key.replace("__", "."): value for key, value in more.items()}}
    return ViT(ViTConfig.preset("tiny-4", overrides=overrides)).eval()


def test_detection_tokens_begin_apart_and_the_class_token_small():
    model = small(detections=50)
    assert 0.9 < model.detection_tokens.weight.std() < 1.1
    assert 0 < model.class_token.weight.std() < 0.04


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_their_published_sizes(name):
    head = {"kind": "classification", "num_classes": 1000}
    with torch.device("meta"):
        model = ViT(ViTConfig.preset(name, overrides={"head": head}))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


def test_the_usual_config_is_the_defaults():
    assert ViTConfig() == build(ViTConfig, resolve(FAMILY.defaults))


@torch.no_grad()
def test_heads_answer_in_their_shapes():
    pixels = torch.randn(3, 3, 16, 16)
    assert small()(pixels).shape == (3, 17, 16)
    assert small(pooling="mean")(pixels).shape == (3, 16, 16)
    assert small(head={"kind": "classification", "num_classes": 5})(pixels).shape == (3, 5)
    assert [x.shape for x in small(head="pooled", pooler=True)(pixels)] == [(3, 17, 16), (3, 16)]
    logits, boxes = small(detections=6, head={"kind": "boxes", "num_classes": 2})(pixels)
    assert (logits.shape, boxes.shape) == ((3, 6, 3), (3, 6, 4))
    assert ((boxes > 0) & (boxes < 1)).all()


@pytest.mark.parametrize("head", ["masked_lm", "boxes"])
def test_heads_that_lack_what_they_read_are_refused(head):
    with pytest.raises(RecipeError, match=r"words|detection tokens"):
        small(head=head)


@torch.no_grad()
def test_a_patch_is_what_a_convolution_sees():
    model, pixels = small(), torch.randn(2, 3, 17, 22)  # what stands over is not seen
    linear = model.embedding.linear
    kernel = linear.weight.view(16, 3, 4, 4)
    truth = torch.nn.functional.conv2d(pixels, kernel, linear.bias, stride=4)
    torch.testing.assert_close(model.embedding(pixels), truth.flatten(2).transpose(1, 2))
    clips = small(num_frames=4, patch_frames=2)
    pixels, linear = torch.randn(2, 3, 4, 16, 16), clips.embedding.linear
    truth = torch.nn.functional.conv3d(
        pixels, linear.weight.view(16, 3, 2, 4, 4), linear.bias, stride=(2, 4, 4)
    )
    torch.testing.assert_close(clips.embedding(pixels), truth.flatten(2).transpose(1, 2))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["grid", {"kind": "grid", "every_layer": True}])
def test_sizes_may_share_a_batch_of_clips_or_change(positions):
    model = small(positions=positions, detections=2)
    assert model(torch.randn(1, 3, 24, 8)).shape == (1, 1 + 12 + 2, 16)
    clips = small(num_frames=4, patch_frames=2, positions=positions)
    assert clips.encoder.positions.weight.shape == (1 + 2 * 16, 16)
    assert clips(torch.randn(1, 3, 6, 8, 16)).shape == (1, 1 + 3 * 8, 16)


@torch.no_grad()
def test_the_mean_is_of_real_patches_alone():
    model = small(pooling="mean", detections=2, head={"kind": "classification", "num_classes": 2})
    pixels, mask = torch.randn(2, 3, 16, 16), torch.ones(2, 16, dtype=torch.bool)
    mask[1, 3:] = False
    states = model.features(pixels, mask=mask)
    pooled = model.pool(states, mask)
    torch.testing.assert_close(pooled[0], states[0, :16].mean(0))
    torch.testing.assert_close(pooled[1], states[1, :3].mean(0))
    other = pixels.clone()
    other[1, :, 4:] = 7.0  # patches from the second row on
    torch.testing.assert_close(model(other, mask=mask), model(pixels, mask=mask))


def test_pixels_that_do_not_fit_are_named():
    model = small()
    for shape in ((2, 1, 16, 16), (2, 3, 4, 16, 16), (3, 16, 16)):
        with pytest.raises(InputError, match=r"are not \[B, 3, height, width\]"):
            model(torch.zeros(shape))
    with pytest.raises(InputError, match="less than a patch of 4 × 4"):
        model(torch.zeros(1, 3, 16, 3))
    with pytest.raises(InputError, match=r"\[B, 3, frames, height, width\]"):
        small(num_frames=2)(torch.zeros(1, 3, 16, 16))
    with pytest.raises(InputError, match=r"26 tokens is longer than the model's 17"):
        small(positions="learned")(torch.zeros(1, 3, 20, 20))


@pytest.mark.parametrize("key", ["image_size", "image_width", "num_frames"])
def test_patches_need_not_fill_a_size_but_fit_in(key):
    sizes = {"num_frames": 4, "patch_frames": 2}
    patch, length = ("patch_frames", 2) if key == "num_frames" else ("patch_size", 4)
    frames = 4 if key == "num_frames" else 2
    assert small(**sizes | {key: 5 * length - 1}).config.grid == (frames, 4, 4)
    with pytest.raises(RecipeError, match=rf"model\.{patch}: is {length}, and model\.{key} = 1 is"):
        small(**sizes | {key: 1})


def test_a_body_has_all_but_the_head():
    model = small(head="classification", detections=2)
    names = {name for name, _ in model.named_parameters() if not name.startswith("head.")}
    assert {name for name, _ in model.body.named_parameters()} == names
    assert model.body(torch.zeros(1, 3, 16, 16)).shape == (1, 19, 16)
