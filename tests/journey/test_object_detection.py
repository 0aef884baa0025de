"""Object detection: check, train, score, find, draw, go on, in and out, what goes wrong."""

import json
import re
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

import regard
from regard.cli.detect import drawn
from regard.data import pictures
from regard.data.readers.boxes import boxes_of, open_boxes
from regard.errors import InputError
from regard.tasks.detector import Box, Detection

from ._boxes import SIDE, SIZES, annotation, coco, voc
from ._made import bits, metrics
from ._pictures import folders

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("pycocotools")
pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has seen some squares and bars; tests must not change it."""
    directory = tmp_path_factory.mktemp("boxes")
    voc(directory)
    regard.train(directory / "boxes.toml", run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    voc(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check(call, folder):
    done = call("check", "boxes.toml")
    assert done.returncode == 0, done.stderr
    assert "48 pictures to train on" in done.stdout
    assert re.search(r"labels: \d+ × bar, \d+ × square\n", done.stdout)
    assert "12 pictures: AP" in done.stdout


def test_it_learns_and_is_scored(call, run):
    held = [line for line in metrics(run) if line["event"] == "evaluation"]
    first, last = (line["scores"] for line in (held[0], held[-1]))
    assert last["distance"] < 0.7 * first["distance"]
    assert last["overlap"] < first["overlap"]
    assert json.loads((run / "labels.json").read_text()) == {"labels": ["bar", "square"]}
    done = call("evaluate", run, "--precision", "float32", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["ap50"]["value"] == pytest.approx(
        max(line["scores"]["ap50"] for line in held), abs=1e-3
    )


def test_coco_files_say_the_same(call, run):
    path = coco(run.parent, "val")
    options = ("--data", f"file={path}", "pictures=data/JPEGImages", "--json")
    done = call("evaluate", run, *options)
    assert done.returncode == 0, done.stderr
    made, usual = (
        json.loads(x)["scores"] for x in (done.stdout, call("evaluate", run, "--json").stdout)
    )
    assert made["ap"]["value"] == usual["ap"]["value"]
    assert made["ap50"]["value"] == usual["ap50"]["value"]


def test_boxes_are_found_drawn_and_said(call, run, tmp_path):
    pictures = sorted((run.parent / "data" / "JPEGImages").glob("val*.png"))[:2]
    done = call("detect", run, pictures[0], "--threshold", "0", "-o", tmp_path / "found.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4  # one for each detection token
    assert lines[0].split()[0] in ("bar", "square")
    made = np.asarray(Image.open(tmp_path / "found.png"))
    assert made.shape == (13 * SIDE, 26 * SIDE, 3)  # a small picture is drawn larger
    assert (made[::13, ::13] != np.asarray(Image.open(pictures[0]))).any()
    done = call("detect", run, *pictures, "--json", "-o", tmp_path / "both")
    assert [json.loads(line)["picture"] for line in done.stdout.splitlines()] == list(
        map(str, pictures)
    )
    assert {path.name for path in (tmp_path / "both").iterdir()} == {p.name for p in pictures}
    detector = regard.load(run)
    one = detector.detect(pictures[0], threshold=0.0)
    many = detector.detect([np.asarray(Image.open(p)) for p in pictures], threshold=0.0)
    assert many[0].size == one.size == (2 * SIDE, SIDE)
    for box, other in zip(one.boxes, many[0].boxes, strict=True):
        assert box.edges == pytest.approx(other.edges, abs=1e-3)
        assert 0 <= box.left <= box.right <= 2 * SIDE
        assert 0 <= box.top <= box.bottom <= SIDE
    shares = [box.probability for box in one.boxes]
    assert shares == sorted(shares, reverse=True)
    assert detector.detect(pictures[0], threshold=1.0).boxes == ()
    done = call("look", run, pictures[0], "-o", tmp_path / "look.png")
    assert (done.returncode, "read as a text" in done.stderr) == (0, False)


def test_what_it_cannot_do_it_says_before_it_works(call, run, tmp_path):
    for name in ("found.xyz", "found"):
        done = call("detect", run, run.parent / "none.png", "-o", name)
        assert done.returncode == 2
        assert f"{name}: " in done.stderr
        assert "no kind of picture that can be written" in done.stderr
        assert "No such file" not in done.stderr
    detector = regard.load(run)
    with pytest.raises(InputError, match="int is no picture"):
        detector.detect(5)
    for threshold in ("x", None, True):
        with pytest.raises(InputError, match="threshold is a number from 0 to 1"):
            detector.detect(tmp_path / "none.png", threshold=threshold)


@pytest.mark.parametrize("size", [(100, 80), (24, 48), (700, 500)])
@pytest.mark.parametrize("top", [0.0, 0.5])
def test_labels_hide_no_object(tmp_path, size, top):
    wide, high = size
    Image.new("RGB", size, "white").save(tmp_path / "plain.png")
    edges = (0.3 * wide, top * high, 0.7 * wide, (top + 0.4) * high)
    found = Detection((Box("cell", 0.98, *edges),), size)
    picture = drawn(tmp_path / "plain.png", found, ["cell"])
    pixels, scale = np.asarray(picture).astype(int), picture.width / wide
    left, up, right, down = (round(scale * edge) for edge in edges)
    assert (pixels[up + 4 : down - 4, left + 4 : right - 4] == 255).all()
    plate = (pixels == (0xE6, 0x19, 0x4B)).all(axis=2)
    plate[up : down + 4, max(0, left - 4) : right + 4] = False
    assert plate.sum() > 100
    assert plate.any(axis=1).sum() <= max(20, 0.1 * picture.height)


def test_no_drawing_takes_the_place_of_another(call, run, tmp_path):
    good = sorted((run.parent / "data" / "JPEGImages").glob("val*.png"))[0]
    for name in ("a.png", "a.jpg", "x/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(good, tmp_path / name)
    for pair in (("a.png", "a.jpg"), ("a.jpg", "x/a.png")):
        done = call("detect", run, *pair, "-o", "out")
        assert (done.returncode, "out/a.png: two of these" in done.stderr) == (2, True)
        assert not (tmp_path / "out").exists()
    assert call("detect", run, "a.png", "a.jpg").returncode == 0


def test_one_large_picture_lives_at_a_time(run, monkeypatch):
    held, real = list[weakref.ref](), pictures._decode

    def counted(*given):
        assert not [one for one in held if one() is not None]
        made = real(*given)
        held.append(weakref.ref(made))
        return made

    monkeypatch.setattr(pictures, "_decode", counted)
    few = sorted((run.parent / "data" / "JPEGImages").glob("val*.png"))[:4]
    detector = regard.load(run)
    assert len(detector.detect(few)) == len(held) == 4
    detector._task.numbers(few)


def test_what_exif_turns_is_scored_the_same(call, run, tmp_path):
    shutil.copytree(run.parent / "data", tmp_path / "turned")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (tmp_path / "turned" / "JPEGImages").glob("val*.png"):
        size, boxes = boxes_of(
            dict(open_boxes({"file": str(run.parent / "data")}).named())[f"JPEGImages/{path.name}"]
        )
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
        turned = [
            (top, size[0] - right, bottom, size[0] - left, name)
            for left, top, right, bottom, name, _ in boxes
        ]
        note = tmp_path / "turned" / "Annotations" / f"{path.stem}.xml"
        note.write_text(annotation(turned, size[::-1]))
    data = ("--data", f"file={tmp_path / 'turned'}", "part=val", "--json")
    made, usual = (
        json.loads(call("evaluate", run, *words).stdout)["scores"]["ap50"]["value"]
        for words in (data, ["--json"])
    )
    assert made == usual > 0


def test_a_broken_picture_among_others_is_named_and_passed_by(call, run, tmp_path):
    good = sorted((run.parent / "data" / "JPEGImages").glob("val*.png"))[0]
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    done = call("detect", run, "cut.png", good, "--json")
    assert done.returncode == 2
    assert "cut.png: the picture cannot be read" in done.stderr
    assert "1 of the pictures cannot be read" in done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first.keys() == {"picture", "error"}
    assert second["picture"] == str(good)


def test_a_run_that_was_stopped_ends_in_the_same_bits(call, folder):
    few = ["training.max_steps=12", "training.checkpoint.every_steps=4", "training.workers=2"]
    few.append('training.schedule={kind="constant", peak=0.003}')  # of no horizon
    assert call("train", "boxes.toml", *few, "--run", "whole").returncode == 0
    short = [*few, "training.max_steps=8"]
    assert call("train", "boxes.toml", *short, "--run", "parts").returncode == 0
    assert call("train", "boxes.toml", *few, "--run", "parts", "--resume").returncode == 0
    assert bits(folder / "whole", 12) == bits(folder / "parts", 12)


def test_out_and_in_again_it_scores_the_same(call, run, tmp_path):
    assert call("export", "hf", run, "-o", tmp_path / "yolos").returncode == 0
    assert json.loads((tmp_path / "yolos" / "config.json").read_text())["model_type"] == "yolos"
    assert call("import", "hf", tmp_path / "yolos", "-o", tmp_path / "again").returncode == 0
    data = ("--data", f"file={run.parent / 'data'}", "part=val", "--json")
    made, usual = (
        json.loads(call("evaluate", one, *data).stdout)["scores"]
        for one in (tmp_path / "again", run)
    )
    assert made["ap"]["value"] == usual["ap"]["value"]


def test_new_writes_a_recipe_that_checks(call, folder):
    shutil.make_archive("data", "zip", "data")
    files = ("--train", "data.zip", "--valid", "data.zip", "--parts", "train,val")
    done = call("new", "object-detection", *files, "-o", "mine.toml")
    assert done.returncode == 0, done.stderr
    assert 'file = "data.zip", part = "train"' in Path("mine.toml").read_text()
    done = call("check", "mine.toml", "training.threads=1", "model.num_layers=1")
    assert done.returncode == 0, done.stderr
    done = call("new", "object-detection", *files[:4], "--parts", "train", "-o", "other.toml")
    assert (done.returncode, "2 lists are wanted" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.detections=1", "a picture has 2 boxes, and model.detections is 1"),
        ("augmentation.mixup=0.2", "boxes are not carried through this change"),
        ('augmentation.fit="crop"', "boxes are not carried through this change"),
        ('data.train.part="trian"', "there is no part 'trian'"),
        ("model.head.kind=classification", "the task 'object-detection' needs 'boxes'"),
        ('objective.kind="classes"', "is no objective of object-detection"),
    ],
)
def test_what_cannot_be_is_said(call, folder, change, words):
    done = call("check", "boxes.toml", change)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_damaged_annotation_is_named(call, folder):
    path = folder / "data" / "Annotations" / "train003.xml"
    for text, words in (
        ("<annotation>", "this is no annotation"),
        (annotation([], size=(0, 0)), "no size of the picture"),
        (annotation([("x", 1, 2, 3, "bar")]), "this is no annotation"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + annotation([]), "declarations are not read"),
    ):
        path.write_text(text)
        done = call("check", "boxes.toml")
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert "train003.xml" in done.stderr


def test_boxes_without_area_are_left_out_and_counted(call, folder):
    path = folder / "data" / "Annotations" / "train003.xml"
    path.write_text(annotation([(5, 5, 5, 9, "bar"), (60, 1, 70, 9, "bar"), (1, 1, 9, 99, "bar")]))
    done = call("check", "boxes.toml")
    assert "left out: 2 boxes without area" in done.stdout, done.stderr
    assert SIZES["train"] == 48
    assert "48 pictures to train on" in done.stdout


def test_it_starts_from_a_classifier_of_other_pictures(call, folder):
    """Its positions are interpolated; the tables of further layers and the head are new."""
    folders(folder)
    sizes = ("model.d_model=32", "model.layer.feed_forward.d_ff=64", "training.max_steps=3")
    few = ("evaluation.every_steps=3", "training.checkpoint.every_steps=3")
    done = call("train", "bars.toml", "--run", "bars", *sizes, *few)
    assert done.returncode == 0, done.stderr
    start = ("model.start_from=bars", "training.max_steps=3", *few)
    done = call("train", "boxes.toml", "--run", "run", *start)
    assert done.returncode == 0, done.stderr
    assert "interpolated: encoder.positions.weight" in done.stdout + done.stderr
    recipes = [regard.Recipe.load(folder / one, settled=True) for one in ("bars", "run")]
    assert recipes[0].augmentation.mean == recipes[1].augmentation.mean
