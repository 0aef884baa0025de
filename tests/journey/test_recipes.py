"""The built-in recipes, tried by ``regard check`` on small stand-in files, and on Multi30k."""

import json
from pathlib import Path

import pytest

from regard.recipe import Recipe, builtin_names

from ._boxes import voc
from ._made import write_files
from ._pictures import folders

MULTI30K = Path(__file__).parents[3] / "shared" / "data" / "multi30k"
HEAVY = {"wmt14-base", "wmt14-big"}


def table(fields):
    """A few examples as a recipe's fields name them, or count them where there is no header."""
    numbered = all(isinstance(field, int) for field in fields.values())
    width = max(fields.values()) if numbered else len(fields)
    header = [] if numbered else ["\t".join(fields.values())]
    place = {c: fields[c] - 1 if numbered else n for n, c in enumerate(fields)}
    rows = []
    for n in range(40):
        row = ["x"] * width
        for column, at in place.items():
            row[at] = str(n % 2) if column == "label" else f"some words {n}"
        rows.append("\t".join(row))
    return "\n".join([*header, *rows]) + "\n"


def data(task, spans=False):
    if task == "image-classification":
        return [f"data.{split}.file={split}" for split in ("train", "valid", "test")]
    if task == "object-detection":
        return ["data.train.file=data", "data.valid.file=data"]
    if task == "classification":
        return [f"data.{split}.file={split}.tsv" for split in ("train", "valid", "test")]
    if task == "tagging":
        return [f"data.{split}.file={split}.conll" for split in ("train", "valid", "test")]
    if task == "dialogue":
        return [f"data.{split}.file={split}.jsonl" for split in ("train", "valid", "test")]
    if task == "question-answering":
        return [f"data.{split}.file={split}.json" for split in ("train", "valid", "test")]
    if task in ("language-modeling", "masked-language-modeling") or spans:
        return [f"data.{split}.file={split}.source" for split in ("train", "valid", "test")]
    return [
        f"data.{split}.{side}={split}.{side}"
        for split in ("train", "valid", "test")
        for side in ("source", "target")
    ]


def paragraphs(lines):
    """Each line is asked for its first word."""
    for line in filter(None, lines):
        answers = [{"text": line.split()[0], "answer_start": 0}]
        yield {"context": line, "qas": [{"question": "What is first?", "answers": answers}]}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else [])
        for name in builtin_names()
    ],
)
def test_check(call, tmp_path, name):
    write_files(tmp_path)
    for side in ("source", "target"):
        path = tmp_path / f"train.{side}"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:40]))
        talk = [
            {"turns": [["USER", line], ["SYSTEM", line]]} for line in path.read_text().split("\n")
        ]
        lines = "\n".join(json.dumps(one) for one in talk if one["turns"][0][1])
        asked = json.dumps(
            {"data": [{"paragraphs": list(paragraphs(path.read_text().split("\n")))}]}
        )
        for split in ("train", "valid", "test"):
            (tmp_path / f"{split}.jsonl").write_text(lines)
            (tmp_path / f"{split}.json").write_text(asked)
    for split in ("train", "valid", "test"):
        if Recipe.load(name).task == "classification":
            fields = Recipe.load(name).data.train.fields
            (tmp_path / f"{split}.tsv").write_text(table(fields))
        (tmp_path / f"{split}.conll").write_text("Anna\tB-person\nsleeps\tO\n\t\n" * 40)
    words = data(Recipe.load(name).task, Recipe.load(name).objective.kind == "span_corruption")
    if Recipe.load(name).task == "image-classification":
        folders(tmp_path)
    if Recipe.load(name).task == "object-detection":
        voc(tmp_path)
    if Recipe.load(name).tokenizer.kind not in ("words", "chars"):
        words.append("tokenizer.vocab_size=400")  # with sentinels
    done = call("check", name, *words, "training.threads=1")
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout
    # a blind guess depends on the text, or is none
    unknown = Recipe.load(name).task in ("question-answering", "object-detection")
    assert unknown or "as it should be" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not MULTI30K.exists(), reason="Multi30k is not here: ../shared/data/multi30k")
def test_the_published_setting(call, tmp_path):
    """Its joint vocabulary has 9,712 entries, and the model 2,568,192 parameters."""
    files = {
        f"data.{split}.{side}": found
        for split in ("train", "valid", "test")
        for side, language in (("source", "en"), ("target", "de"))
        for found in [multi30k(split, language)]
    }
    words = [f"{key}={path}" for key, path in files.items()]
    done = call("check", "multi30k-en-de-tokenized", *words, "training.threads=1", "--json")
    assert done.returncode == 0, done.stderr
    assert "29,000 pairs to train on" in done.stdout
    assert "9,712 entries; 400 of 400 texts come back" in done.stdout
    assert "2,568,192 parameters" in done.stdout


def multi30k(split, language):
    (found,) = (MULTI30K / "tok_bpe").glob(f"{split}*.{language}.gz")
    return found
