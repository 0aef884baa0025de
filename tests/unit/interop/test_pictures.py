"""What makes numbers of pixels, from and to the field's files."""

import json

import pytest

import regard
from regard import registry
from regard.errors import InputError
from regard.interop import vit, yolos
from regard.interop.pictures import PROCESSOR, read_processor, write_processor
from regard.interop.runs import Imported, export_hf, write_run
from regard.models import ViTConfig
from regard.recipe import Recipe

SIZES = {"num_layers": 1, "d_model": 8, "layer.attention.num_heads": 2, "image_size": 16}


def config(**more):
    return ViTConfig.preset("tiny-4", overrides={**SIZES, **more})


def written(tmp_path, **settings):
    (tmp_path / PROCESSOR).write_text(json.dumps(settings))
    return read_processor(tmp_path, vit.FORMAT, config())


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("form", [vit.FORMAT, yolos.FORMAT])
def test_what_is_written_is_read(tmp_path, form, fit):
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    said = write_processor(form, config(), mean, std, fit, tmp_path)
    found, source = read_processor(tmp_path, form, config())
    assert said == source == f"pixels: {PROCESSOR}"
    assert found == {"mean": mean, "std": std, "fit": fit}


def test_what_no_file_says_is_the_formats_usual(tmp_path):
    found, note = read_processor(tmp_path, yolos.FORMAT, config())
    assert found["mean"] == [0.485, 0.456, 0.406]
    assert PROCESSOR in note
    grey, _ = read_processor(tmp_path, vit.FORMAT, config(channels=1))
    assert grey == {"mean": [0.5], "std": [0.5]}


def test_pixels_that_are_not_normalized_have_a_mean_of_zero(tmp_path):
    found = written(tmp_path, do_normalize=False, image_mean=[0.5] * 3)[0]
    assert (found["mean"], found["std"]) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rescale_factor": 1 / 127.5}, "do_rescale"),
        ({"do_rescale": False}, "do_rescale"),
        ({"image_mean": [0.5]}, "3 numbers"),
        ({"image_std": [0.5, 0, 0.5]}, "3 numbers"),
        ({"image_mean": "half"}, "3 numbers"),
    ],
)
def test_other_pixels_are_refused(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        written(tmp_path, **settings)


SQUARE, SHORTER = {"height": 16, "width": 16}, {"shortest_edge": 16}


@pytest.mark.parametrize(
    ("settings", "fit", "left"),
    [
        ({"size": SQUARE, "resample": 2}, "stretch", ""),
        ({"size": 16, "do_resize": True}, "stretch", ""),
        ({"size": SQUARE, "crop_size": 8}, "stretch", ""),  # it does not crop
        ({"size": SQUARE, "do_center_crop": True, "crop_size": SQUARE}, "stretch", ""),
        ({"size": SHORTER, "do_center_crop": True, "crop_size": 16}, "crop", ""),
        ({"resample": 3}, "stretch", "resample = 3"),
        ({"do_resize": False}, "stretch", "do_resize = False"),
        ({"size": 20}, "stretch", "size = 20"),
        ({"size": SHORTER}, "stretch", f"size = {SHORTER}"),
        (
            {"size": {"shortest_edge": 18}, "do_center_crop": True, "crop_size": SQUARE},
            "crop",
            "size = {'shortest_edge': 18}",
        ),
        ({"size": SQUARE, "do_center_crop": True, "crop_size": 8}, "stretch", "crop_size = 8"),
        ({"resample": 0, "size": 8}, "stretch", "resample = 0, size = 8"),
    ],
)
def test_what_is_not_taken_over_is_named(tmp_path, settings, fit, left):
    found, note = written(tmp_path, **settings)
    assert found["fit"] == fit
    assert note == f"pixels: {PROCESSOR}" + (f"; not taken over: {left}" if left else "")


def test_the_shorter_edge_of_yolos_is_not_taken_over(tmp_path):
    (tmp_path / PROCESSOR).write_text('{"size": 16, "max_size": 32}')
    assert "not taken over: size = 16" in read_processor(tmp_path, yolos.FORMAT, config())[1]


def test_a_middle_that_is_no_square_is_not_written(tmp_path):
    wide = config(image_width=32)
    with pytest.raises(InputError, match=r"augmentation\.fit: is 'crop', .* 16 × 32"):
        write_processor(vit.FORMAT, wide, [0.5] * 3, [0.5] * 3, "crop", tmp_path)
    write_processor(vit.FORMAT, wide, [0.5] * 3, [0.5] * 3, "stretch", tmp_path)
    assert read_processor(tmp_path, vit.FORMAT, wide)[1] == f"pixels: {PROCESSOR}"


@pytest.mark.parametrize("head", ["none", {"kind": "classification", "num_classes": 2}])
def test_a_run_keeps_them(tmp_path, head):
    made = config(head=head)
    tensors = dict(registry.family("vit").model(made).named_parameters())
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    labels = ["a", "b"] if head != "none" else []
    write_run(
        Imported("vit", made, tensors, {}, "made", labels=labels, pixels=pixels), tmp_path / "run"
    )
    notes = export_hf(tmp_path / "run", tmp_path / "out")
    assert f"pixels: {PROCESSOR}" in notes
    given = json.loads((tmp_path / "out" / PROCESSOR).read_text())
    assert given["image_mean"] == pixels["mean"]
    assert given["size"] == {"height": 16, "width": 16}


@pytest.mark.parametrize(
    ("head", "labels", "problem", "task"),
    [
        ({"kind": "classification", "num_classes": 2}, "ab", "", "image-classification"),
        (
            {"kind": "classification", "num_classes": 2},
            "ab",
            "multi_label_classification",
            "states",
        ),
        ({"kind": "classification", "num_classes": 1}, "", "regression", "states"),
        ({"kind": "boxes", "num_classes": 2}, "ab", "", "object-detection"),
        ("pooled", "", "", "states"),
    ],
)
def test_the_task_is_what_the_head_answers(tmp_path, head, labels, problem, task):
    made = config(head=head, detections=3)
    tensors = dict(registry.family("vit").model(made).named_parameters())
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3}
    found = Imported(
        "vit", made, tensors, {}, "made", labels=list(labels), problem=problem, pixels=pixels
    )
    write_run(found, tmp_path / "run")
    assert Recipe.load(tmp_path / "run", settled=True).task == task
    assert regard.load(tmp_path / "run").model is not None
