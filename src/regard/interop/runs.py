"""Runs from the field's files, and back: an imported run is a checkpoint at step 0."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from regard import registry
from regard.cost import on_meta
from regard.data.tokenizers import Tokenizer, load_tokenizer
from regard.data.tokenizers.imported import ImportedTokenizer
from regard.errors import InputError
from regard.files import write_json
from regard.interop import hf, llama, llama2c
from regard.interop.exported import special_ids, write_tokenizer
from regard.interop.files import read_json
from regard.interop.format import inverse
from regard.interop.generation import decoding_of
from regard.interop.pictures import read_processor, write_processor
from regard.interop.slots import fill
from regard.interop.vocabularies import SOURCE, TOKENIZER, read_vocabulary
from regard.recipe import Recipe
from regard.recipe.augmentation import Augmentation
from regard.run import RECIPE, Run
from regard.spec import build, plain, resolve

TASKS = {
    "t5": "text-to-text",
    "decoder": "language-modeling",
    "encoder-decoder": "translation",
    "masked_lm": "masked-language-modeling",
    "classification": "classification",
    "tokens": "tagging",
    "span": "question-answering",
}
"""The task that a family says, or its shape, or an encoder's head."""

OF_PICTURES = {"classification": "image-classification", "boxes": "object-detection"}
"""The task that the head says of what reads pictures."""

WITHOUT_HEAD = "states"

OBJECTIVES = {
    "language-modeling": "next_token",
    "masked-language-modeling": "masked_lm",
    "classification": "classes",
    "tagging": "classes",
    "question-answering": "span",
    "image-classification": "classes",
    "object-detection": "set_prediction",
}
"""What each task trains with, where that is not the recipe's usual one."""

PROBLEMS = {"regression": "regression", "multi_label_classification": "multi_label"}
"""What a classifier of theirs may be otherwise, and the objective that says so."""

LABELS, ANSWERING = "labels.json", "answering.json"
"""Files of a run: the names of its classes; whether a question may have no answer."""


@dataclass(frozen=True)
class Imported:
    """What becomes a run.

    Attributes:
        family: ours.
        config: of the model.
        tensors: its parameters.
        tokenizers: by the file of the run.
        origin: what it was, in words.
        decoding: the recipe's settings of it.
        notes: lines worth reading.
        labels: names of the classes that its head chooses between.
        problem: theirs of `PROBLEMS`, or nothing.
        pixels: the recipe's settings that make numbers of them; None: it reads text.
    """

    family: str
    config: Any
    tensors: Mapping[str, Tensor]
    tokenizers: Mapping[str, Tokenizer]
    origin: str
    decoding: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    labels: Sequence[str] = ()
    problem: str = ""
    pixels: Mapping[str, Any] | None = None


def read_hf(directory: Path) -> Imported:
    """A directory of Hugging Face's.

    Raises:
        InputError: a file is missing, or says what is not supported.
        CheckpointError: a tensor does not fit.
    """
    if not directory.is_dir():
        raise InputError("is no directory", where=str(directory))
    found = hf.read_directory(directory)
    notes = [f"left out, as this architecture has no place for it: {x}" for x in found.left_out]
    family, origin = found.form.family, f"{found.form.model_type} of {directory.resolve().name}"
    labels, problem = _labels(found), str(found.given.get("problem_type") or "")
    if found.form.pixels is not None:
        pixels, note = read_processor(directory, found.form, found.config)
        made = Imported(family, found.config, found.tensors, {}, origin, {}, [*notes, note])
        return replace(made, labels=labels, problem=problem, pixels=pixels)
    config, shape = found.config, registry.family(family).shape
    generation = dict(found.given)
    if (directory / "generation_config.json").exists():
        generation |= read_json(directory / "generation_config.json")
    target_size = getattr(config, "target_vocab_size", None)
    tokenizers, source = read_vocabulary(
        directory,
        generation,
        decoder=shape != "encoder",
        size=target_size or config.vocab_size,
        source_size=config.vocab_size if target_size else None,
    )
    notes.append(
        f"tokenizer: {source}"
        if source
        else "there are no tokenizer files: the run reads and writes ids alone"
    )
    decoding, untaken = decoding_of(generation, shape, str(directory))
    notes += [untaken] if untaken else []
    return Imported(
        family,
        config,
        found.tensors,
        tokenizers,
        origin,
        decoding,
        notes,
        labels=labels,
        problem=problem,
    )


def _labels(found: hf.Found) -> list[str]:
    """Names of the classes, by number; none where the head gives one number."""
    kind = getattr(found.config.head, "kind", "")
    if kind not in ("classification", "tokens", "boxes"):
        return []
    _, options = found.config.head.resolve()
    if kind == "classification" and options.num_classes == 1:
        return []
    named = found.given.get("id2label") or {}
    return [str(named.get(str(i), f"LABEL_{i}")) for i in range(options.num_classes)]


def read_llama2c(path: Path) -> Imported:
    """A model of llama2.c: its file, or the directory with it and its tokenizer.

    Raises:
        InputError: it cannot be read, or there is more than one.
    """
    directory = path if path.is_dir() else path.parent
    vocabularies = llama2c.tokenizers_in(directory)
    if path.is_dir():
        models = [one for one in sorted(path.glob("*.bin")) if one not in vocabularies]
        if len(models) != 1:
            names = ", ".join(one.name for one in models) or "none"
            raise InputError(
                f"one model is wanted here, and there is: {names}",
                where=str(path),
                hint="name the file",
            )
        path = models[0]
    settings, weights = llama2c.read_weights(path)
    family = registry.family("gpt")
    config: Any = build(family.config, resolve(family.defaults, settings))
    table = llama.table(config)
    tensors = fill(on_meta(family, config), table, weights, where=str(path))
    tokenizer, note = llama2c.read_tokenizer(vocabularies, config.vocab_size)
    decoding = {"strategy": "greedy"}
    origin = f"llama2.c's {path.name}"
    return Imported("gpt", config, tensors, {TOKENIZER: tokenizer}, origin, decoding, [note])


def task_of(found: Imported) -> str:
    """The task that its head says; one that is not there leaves its plain answers."""
    head = getattr(getattr(found.config, "head", None), "kind", "")
    if found.pixels is not None and (found.problem in PROBLEMS or not found.labels):
        return WITHOUT_HEAD  # numbers, or any number of classes: no task of pictures answers so
    known = TASKS if found.pixels is None else OF_PICTURES
    said = (known.get(name) for name in (found.family, registry.family(found.family).shape, head))
    task = next(filter(None, said), WITHOUT_HEAD)
    return task if task in registry.names("tasks") else WITHOUT_HEAD


def write_run(found: Imported, output: Path) -> Run:
    """Make a run of it, whole or not at all."""
    task = task_of(found)
    settings: dict[str, Any] = {
        "task": task,
        "model": {"family": found.family, **plain(found.config)},
        "training": {"max_steps": 1},
        "decoding": dict(found.decoding),
    }
    if found.pixels is not None:
        settings["augmentation"] = dict(found.pixels)
    else:
        joint = getattr(found.config, "target_vocab_size", None) is None
        settings["tokenizer"] = {"kind": ImportedTokenizer.kind, "joint": joint}
    if found.pixels is None and registry.family(found.family).shape == "encoder":
        settings["data"] = {"max_length": found.config.max_positions}  # all that its model reads
    if task in OBJECTIVES:
        kind = OBJECTIVES[task]
        if task == TASKS["classification"]:
            by_labels = kind if found.labels else PROBLEMS["regression"]
            kind = PROBLEMS.get(found.problem, by_labels)
        settings["objective"] = {"kind": kind}
    recipe = Recipe.from_settings(settings)
    with _whole(output) as partial:
        made = Run(partial)
        made.write(RECIPE, recipe.dump())
        for name, tokenizer in found.tokenizers.items():
            tokenizer.save(partial / name)
        if found.labels:
            write_json(partial / LABELS, {"labels": list(found.labels)})
        if task == TASKS["span"]:
            write_json(partial / ANSWERING, {"no_answer": False})
        made.record_environment({"imported": found.origin, "precision": "float32"})
        made.store.save(0, {"model": dict(found.tensors)}, {"imported": found.origin})
        made.write_card(_card(found, task, output))
    return Run.open(output)


def export_hf(run: Path, output: Path) -> list[str]:
    """Write a run as Hugging Face reads it; lines worth reading.

    Raises:
        RunError, CheckpointError: the run cannot be used.
        InputError: no format of the field can say its model.
    """
    opened = Run.open(run)
    recipe = Recipe.load(opened.path, settled=True)
    config = recipe.model_config_for()
    if recipe.adapter is not None:
        raise InputError(
            "the run has adapters, which no format of the field has beside the weights",
            where=str(run),
            hint="merge them first: regard merge RUN -o RUN2, then export RUN2",
        )
    form, unsaid = hf.form_for(recipe.family, config)
    tensors, weights = opened.weights("auto")
    tokenizers = {
        name: load_tokenizer(opened.path / name)
        for name in (TOKENIZER, SOURCE)
        if (opened.path / name).exists()
    }
    notes = [f"{form.model_type}, weights: {weights}"]
    notes += [f"{key} is not said there" for key in unsaid]
    with _whole(output) as partial:
        tokenizer = tokenizers.get(TOKENIZER)
        special: dict[str, Any] = {}
        if tokenizer is not None:
            special |= special_ids(tokenizer, recipe.family)
        if (problem := inverse(PROBLEMS).get(recipe.objective.kind)) is not None:
            special["problem_type"] = problem
        labels: list[str] = []
        if (opened.path / LABELS).exists():
            labels = read_json(opened.path / LABELS)["labels"]
        hf.write_directory(form, config, tensors, partial, special, labels)
        if form.pixels is None:
            notes.append(write_tokenizer(tokenizers, recipe.family, config, partial))
        else:
            said = recipe.augmentation or Augmentation()
            notes.append(write_processor(form, config, said.mean, said.std, said.fit, partial))
    prefixes = [one.prefix for one in recipe.mixture or ()] or [recipe.data.prefix or ""]
    if any(prefixes):
        named = " or ".join(repr(one) for one in prefixes if one)
        notes.append(f"prefixes are not said there: {named} must stand before each text")
    return notes


def _card(found: Imported, task: str, output: Path) -> str:
    parameters = sum(tensor.numel() for tensor in found.tensors.values())
    verb, given = registry.task(task).verb, '"…"' if found.pixels is None else "picture.jpg"
    lines = [
        f"# {output.name}",
        "",
        f"{found.origin}, imported by regard: a {found.family} for {task} with {parameters:,} "
        "parameters. Nothing was trained here.",
        "",
        "```sh",
        f"regard {verb} {output} {given}" if verb else f"regard cost {output}",
        f"regard export hf {output} -o DIR",
        "```",
        "",
    ]
    return "\n".join(lines)


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A directory that has its name when all is in it."""
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
