"""Image classification: check, train, score, use, look inside, go on, what goes wrong."""

import json
import os
import re
import shutil
import signal
import struct
from pathlib import Path

import numpy as np
import pytest

import regard
from regard.cli.new.image_classification import Measured, choose
from regard.data.pictures import Form, decode
from regard.errors import InputError
from regard.training import StepDone

from ._made import bits, metrics
from ._pictures import SIZES, archives, folders, packed, recipe

Image = pytest.importorskip("PIL.Image")
SHARED = Path(__file__).parents[3] / "shared" / "data"

FEW = [
    "training.max_steps=9",
    "training.checkpoint.every_steps=3",
    "evaluation.every_steps=9",
    "augmentation.mixup=0.4",
    "augmentation.cutmix=1.0",
    "augmentation.erase=0.3",
    "augmentation.smallest=0.5",
    "augmentation.randaugment.layers=2",
    "training.ema=0.9",
    "training.workers=2",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that tells lying bars from standing ones; tests must not change it."""
    directory = tmp_path_factory.mktemp("bars")
    folders(directory)
    regard.train(directory / "bars.toml", run=directory / "run")
    return directory / "run"


@pytest.fixture
def folder(tmp_path):
    folders(tmp_path)
    return tmp_path


def test_check(call, folder):
    (folder / "train" / "leans").mkdir()
    (folder / "valid" / "lies" / "extra.png").write_bytes(
        (folder / "valid" / "lies" / "000.png").read_bytes()
    )
    done = call("check", "bars.toml")
    assert done.returncode == 0, done.stderr
    assert "96 pictures to train on" in done.stdout
    assert "labels: 48 × lies, 48 × stands" in done.stdout
    assert "labels: 11 × lies, 10 × stands" in done.stdout
    assert "left out: 1 folder without a picture: leans" in done.stdout
    assert "96 of 96 can be read; 12 × 12 pixels, red, green, blue" in done.stdout
    assert "(pictures × channels × height × width)" in done.stdout
    assert "as it should be" in done.stdout
    assert "21 pictures: top-1" in done.stdout


def test_it_learns_and_is_scored(call, run):
    done = call("evaluate", run, "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert scores["top1"]["value"] >= 95.0
    assert scores["top5"]["value"] == 100.0
    assert json.loads((run / "labels.json").read_text()) == {"labels": ["lies", "stands"]}
    assert f"regard classify {run} picture.jpg" in (run / "README.md").read_text()
    (shown,) = [line for line in metrics(run) if line["event"] == "evaluation"][-1]["samples"]
    assert shown["source"].endswith("valid/lies/000.png")
    assert shown["target"] == "lies"
    mean = regard.Recipe.load(run, settled=True).augmentation.mean
    pixels = np.stack([np.asarray(Image.open(p)) for p in run.parent.glob("train/*/*.png")])
    assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2)) / 255, abs=1e-3)


def test_paths_a_file_of_them_and_json(call, run, tmp_path):
    test = run.parent / "test"
    paths = [test / "lies" / "000.png", test / "stands" / "001.png"]
    done = call("classify", run, *paths)
    assert (done.returncode, done.stdout) == (0, "lies\nstands\n"), done.stderr
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    assert call("predict", run, "-i", "list.txt").stdout == "lies\nstands\n"
    found = json.loads(call("classify", run, paths[0], "--json").stdout)
    assert (found["picture"], found["label"]) == (str(paths[0]), "lies")
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_from_python(run):
    p = regard.load(run)
    path = run.parent / "test" / "stands" / "001.png"
    picture = Image.open(path)
    answers = p.classify([path, str(path), picture, np.asarray(picture), picture.convert("RGBA")])
    assert {one.label for one in answers} == {"stands"}
    assert len({round(one.probability, 6) for one in answers}) == 1
    assert p.classify(path).label == "stands"
    assert p.classify([]) == []
    assert p.classify(picture.resize((70, 31))).label == "stands"
    assert p.classify(picture.convert("L")).probabilities.keys() == {"lies", "stands"}


def test_what_cannot_be_classified(call, run, tmp_path):
    done = call("classify", run, "nothing.png")
    assert done.returncode == 2
    assert "nothing.png: this picture cannot be read: No such file" in done.stderr
    (tmp_path / "cut.png").write_bytes(packed(Image.new("RGB", (40, 40), "red"))[:50])
    done = call("classify", run, "cut.png")
    assert done.returncode == 2
    assert "cut.png: the picture cannot be read" in done.stderr


def test_data_to_score_that_are_no_pictures(call, run):
    shutil.copy(run.parent / "bars.toml", "bars.toml")
    needed = "data: file is needed, or source and target as IDX files\n  give a folder that holds"
    for words, said in (
        (["fil=x"], "did you mean 'file'?"),
        (["fields.picture=x"], needed),
        (["source=test"], needed),
        (["source=.", "target=bars.toml"], needed),
        (["file=bars.toml"], "give a folder that holds a folder for each class"),
    ):
        done = call("evaluate", run, "--data", *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    shutil.copytree(run, "bare")
    recipe, _, test = (run / "recipe.toml").read_text().partition("[data.test]\n")
    Path("bare/recipe.toml").write_text(recipe + test[test.index("[") :])
    done = call("evaluate", "bare")
    assert (done.returncode, "--data file=FOLDER" in done.stderr) == (2, True), done.stderr


def test_broken_pictures_are_left_out_of_scores_where_asked(call, run, tmp_path):
    shutil.copytree(run.parent / "test", tmp_path / "some")
    (tmp_path / "some" / "lies" / "cut.png").write_bytes(b"\x89PNG")
    done = call("evaluate", run, "--data", "file=some")
    assert done.returncode == 2
    assert "cut.png: the picture cannot be read" in done.stderr
    assert "--data broken=skip" in done.stderr
    done = call("evaluate", run, "--data", "file=some", "broken=skip")
    assert done.returncode == 0, done.stderr
    assert "20 examples" in done.stdout
    assert "left out: 1 broken" in done.stdout
    alone = call("evaluate", run, "--data", "broken=skip", "--json")
    assert json.loads(alone.stdout)["left_out"] == 0, alone.stderr
    done = call("evaluate", run, "--data", "file=some", "broken=no")
    assert (done.returncode, "data.broken: is 'no': error or skip" in done.stderr) == (2, True)


@pytest.mark.parametrize("given", [5, None, {"a": 1}, [5], object()])
def test_what_is_no_picture_is_said(run, given):
    with pytest.raises(InputError, match="is no picture") as caught:
        regard.load(run).classify(given)
    assert "a path, a file's bytes, a Pillow picture, an array" in str(caught.value.hint)


def test_cost_counts_a_head(call, run):
    done = call("cost", run.parent / "bars.toml")
    assert "with a head for 2 label(s) (assumed" in done.stdout
    theirs = call("cost", run)
    assert "assumed" not in theirs.stdout
    ours, other = (re.findall(r"[\d,]+ parameters", one.stdout) for one in (done, theirs))
    assert ours == other  # there are two labels


def test_broken_pictures_among_others_are_named_and_passed_by(call, run, tmp_path):
    test = run.parent / "test"
    (tmp_path / "cut.png").write_bytes(packed(Image.new("RGB", (40, 40), "red"))[:50])
    paths = [test / "lies" / "000.png", "cut.png", test / "stands" / "001.png", "nothing.png"]
    done = call("classify", run, *paths)
    assert (done.returncode, done.stdout) == (2, "lies\n\nstands\n\n")
    assert "cut.png: the picture cannot be read" in done.stderr
    assert "nothing.png: this picture cannot be read: No such file" in done.stderr
    assert "2 of the pictures cannot be read" in done.stderr
    assert call("classify", run, *paths, "--json", "-o", "found.jsonl").returncode == 2
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [one.get("label") for one in found] == ["lies", None, "stands", None]
    assert "cannot be read" in found[1]["error"]


@pytest.mark.parametrize("name", ["train.zip", "valid.tar", "test.tar.gz"])
def test_archives_hold_the_same(call, run, name, tmp_path):
    shutil.copytree(run.parent, tmp_path / "all")
    archives(tmp_path / "all")
    whole = tmp_path / "all" / name.split(".")[0]
    reports = [
        json.loads(call("evaluate", run, "--data", f"file={one}", "--json").stdout)
        for one in (whole, tmp_path / "all" / name)
    ]
    assert reports[0]["examples"] == SIZES[name.split(".")[0]]
    assert reports[0]["scores"] == reports[1]["scores"]


def test_idx_files_in_grey(call, folder):
    for split in SIZES:
        paths = sorted((folder / split).glob("*/*.png"))
        pixels = [Form(12, 12, 1).pixels(decode(path.read_bytes(), 1)) for path in paths]
        labels = bytes(path.parent.name == "stands" for path in paths)
        head = struct.pack(">BBBB3I", 0, 0, 8, 3, len(paths), 12, 12)
        (folder / f"{split}.pictures").write_bytes(head + np.stack(pixels).tobytes())
        head = struct.pack(">BBBBI", 0, 0, 8, 1, len(paths))
        (folder / f"{split}.labels").write_bytes(head + labels)
    splits = {split: f'source = "{split}.pictures", target = "{split}.labels"' for split in SIZES}
    (folder / "idx.toml").write_text(recipe(splits))
    done = call("train", "idx.toml", "model.channels=1", "--run", "run")
    assert done.returncode == 0, done.stderr
    done = call("evaluate", "run", "--source", "test.pictures", "--target", "test.labels", "--json")
    assert json.loads(done.stdout)["scores"]["top1"]["value"] >= 90.0
    assert call("classify", "run", "test/stands/001.png").stdout == "1\n"
    held = (folder / "test.labels").read_bytes()
    (folder / "test.labels").write_bytes(held[:-1] + b"\7")
    done = call("evaluate", "run", "--source", "test.pictures", "--target", "test.labels")
    assert done.returncode == 2
    assert f"test.labels:{SIZES['test']}: '7' is not among the labels" in done.stderr


def test_interrupted_and_resumed_is_the_same(folder, call):
    whole = regard.train(folder / "bars.toml", FEW, run=folder / "whole")

    def stop(event):
        if isinstance(event, StepDone) and event.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    half = regard.train(folder / "bars.toml", FEW, run=folder / "half", listeners=[stop])
    assert (half.result.reason, half.result.step) == ("interrupt", 4)
    changed = [word for word in FEW if "workers" not in word]
    done = call("train", "bars.toml", *changed, "--run", "half", "--resume")
    assert done.returncode == 0, done.stderr
    assert bits(folder / "half", 9) == bits(folder / "whole", 9)
    assert whole.result.step == 9


def test_a_broken_picture_at_training(call, folder):
    bad = folder / "train" / "lies" / "004.png"
    bad.write_bytes(bad.read_bytes()[:-40])
    done = call("train", "bars.toml", "--run", "run")
    assert done.returncode == 2
    assert "train/lies/004.png: the picture cannot be read" in done.stderr
    assert 'data.broken = "skip"' in done.stderr
    done = call("train", "bars.toml", *FEW, "data.broken=skip", "--run", "other")
    assert done.returncode == 0, done.stderr
    assert "95 pictures to train on" in done.stderr
    assert "left out: 1 broken" in done.stderr


def test_large_pictures_are_decoded_batch_by_batch(call, folder):
    sizes = ["model.image_size=96", "model.patch_size=32", "training.batch_size=8"]
    done = call("train", "bars.toml", *FEW, *sizes, "--run", "run")
    assert done.returncode == 0, done.stderr
    assert call("classify", "run", "test/lies/000.png").stdout.strip() in ("lies", "stands")


def test_look(call, run, tmp_path):
    path = run.parent / "test" / "lies" / "000.png"
    for n, words in enumerate([[], ["--target", "lies"], ["--rollout"]]):
        done = call("look", run, path, *words, "-o", f"look{n}.png")
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / f"look{n}.png") as drawn:
            assert drawn.width > 500
    done = call("look", run, path, "-o", "page.html")
    assert done.returncode == 0, done.stderr
    assert "[CLS]" in (tmp_path / "page.html").read_text()
    done = call("look", run, path, "--target", "cat", "-o", "x.png")
    assert done.returncode == 2
    assert "there is no class 'cat'" in done.stderr


def test_another_run_goes_on_from_its_weights(call, folder, run):
    done = call("train", "bars.toml", *FEW, f"model.start_from={run}", "--run", "second")
    assert done.returncode == 0, done.stderr
    first, second = (regard.Recipe.load(one, settled=True) for one in (run, folder / "second"))
    assert first.augmentation.mean == second.augmentation.mean


def test_larger_pictures_start_from_interpolated_positions(call, folder, run):
    larger = ["model.image_size=24", f"model.start_from={run}"]
    done = call("train", "bars.toml", *FEW, *larger, "--run", "larger")
    assert done.returncode == 0, done.stderr
    assert "interpolated: encoder.positions.weight" in done.stderr
    assert "new, drawn at random: none" in done.stderr


def test_larger_patches_start_from_an_interpolated_map(call, folder, run):
    larger = ["model.image_size=32", "model.patch_size=8", f"model.start_from={run}"]
    done = call("train", "bars.toml", *FEW, *larger, "--run", "patches")
    assert done.returncode == 0, done.stderr
    assert "interpolated: embedding.linear.weight" in done.stderr
    assert "new, drawn at random: none" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["augmentation.flop=1"], "augmentation.flip"),
        (["augmentation.flip=2"], "augmentation.flip"),
        (["augmentation.mean=[0.1]"], "lists of 3, one number for each channel"),
        (["model.head=none"], "model.head: is 'none', and the task 'image-classification' needs"),
        (["model.channels=2"], "is 2: a picture has 1 (grey) or 3"),
        (["model.num_frames=2"], "this model reads clips"),
        (
            ["model.patch_size=5"],
            "command line: model.patch_size: is 5, and model.image_size = 12 is no multiple of it",
        ),
        (["objective.kind=span"], "no objective of image-classification"),
        (["data.train.file=bars.toml"], "kind of these pictures cannot be told"),
        (
            ["data.valid.file=strange"],
            "strange/moves/000.png: 'moves' is not among the labels of the training data",
        ),
    ],
)
def test_what_is_wrong_is_said(call, folder, words, said):
    (folder / "strange" / "moves").mkdir(parents=True)
    shutil.copy(folder / "test" / "lies" / "000.png", folder / "strange" / "moves")
    done = call("train", "bars.toml", *words, "--run", "run")
    assert done.returncode == 2, done.stdout
    assert said in done.stderr


def test_augmentation_is_for_pictures(call, tmp_path):
    (tmp_path / "text.toml").write_text(
        'task = "translation"\ntraining.max_steps = 1\naugmentation.flip = 0.5\n'
    )
    done = call("check", "text.toml")
    assert done.returncode == 2
    assert "the task 'translation' has no such key" in done.stderr


def test_new(call, folder):
    archives(folder)
    words = ["--train", "train.zip", "--valid", "valid.tar", "--test", "test"]
    done = call("new", "image-classification", *words, "-o", "mine.toml")
    assert done.returncode == 0, done.stderr
    text = (folder / "mine.toml").read_text()
    assert "for 96 pictures, 2 labels" in text
    assert 'train = { file = "train.zip" }' in text
    assert "image_size = 12" in text
    assert "channels = 3" in text
    assert call("check", "mine.toml").returncode == 0


def test_few_pictures_are_seen_more_often():
    epochs = [
        int(choose(Measured(count, 2, 32, grey=False, alike=True))["epochs"])
        for count in (200, 1_000, 4_000, 20_000, 50_000)
    ]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] >= 3 * epochs[-2]


def test_new_for_tables_and_odd_sizes(call, folder):
    rows = ["path,class"]
    (folder / "odd").mkdir()
    for n in range(20):
        Image.new("L", (300 + n, 250), 10 * n).save(folder / "odd" / f"{n}.jpg")
        rows.append(f"odd/{n}.jpg,{'dark' if n < 10 else 'bright'}")
    (folder / "odd.csv").write_text("\n".join(rows) + "\n")
    words = ["image-classification", "--train", "odd.csv", "--valid", "odd.csv", "-o", "odd.toml"]
    done = call("new", *words)
    assert done.returncode == 2
    assert "odd.csv: there is no field 'picture', but path, class" in done.stderr
    assert "--picture FIELD --label FIELD" in done.stderr
    done = call("new", *words, "--picture", "path", "--label", "class")
    assert done.returncode == 0, done.stderr
    text = (folder / "odd.toml").read_text()
    assert 'fields = { picture = "path", label = "class" }' in text
    for line in ("image_size = 224", "channels = 1", 'fit = "crop"', "smallest = 0.3"):
        assert line in text
    done = call("check", "odd.toml", "model.num_layers=1", "training.threads=1")
    assert done.returncode == 0, done.stderr
    done = call("new", "image-classification", "--train", "no", "--valid", "no", "-o", "no.toml")
    assert done.returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the pictures are not here: ../shared/data")
def test_the_published_data(call):
    """All of MNIST, and half of CIFAR-10 with the mean and deviation that its notes state."""
    mnist = [
        f"data.{split}.{side}={SHARED}/img_mnist/{name}-{what}-ubyte.gz"
        for split, name in (("train", "train"), ("valid", "t10k"))
        for side, what in (("source", "images-idx3"), ("target", "labels-idx1"))
    ]
    done = call("check", "mnist", *mnist, "training.threads=1")
    assert done.returncode == 0, done.stderr
    assert "60,000 pictures to train on" in done.stdout
    assert "10,000 pictures to validate with" in done.stdout
    folder = SHARED / "img_cifar10_jpeg"
    cifar = [f"data.train.file={folder}/train.zip", f"data.valid.file={folder}/test.zip"]
    done = call("check", "cifar10", *cifar, "training.threads=1")
    assert done.returncode == 0, done.stderr
    assert "25,000 pictures to train on" in done.stdout
    assert "mean 0.492 0.482 0.446, deviation 0.246 0.244 0.261" in done.stdout
