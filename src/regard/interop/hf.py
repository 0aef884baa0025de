"""Hugging Face's directories: ``config.json`` and safetensors, in one file or in shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from regard import registry
from regard.cost import on_meta
from regard.errors import InputError
from regard.interop.format import Format
from regard.interop.settings import Settings
from regard.interop.slots import empty, fill, matches
from regard.spec import build, resolve

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

HEADS = ("lm_head.", "cls.")
"""Tensors outside the body, whose names have no prefix."""

SILENT = (
    *("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "output_past"),
    *("task_specific_params", "gradient_checkpointing", "_attn_implementation", "return_dict"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "output_attentions", "output_hidden_states", "embd_layer_norm"),
)
"""Keys that say nothing about the numbers of a forward pass."""


def read_directory(directory: Path) -> tuple[Format, Any, dict[str, Tensor]]:
    """Format, our config and our parameters of a model in the field's form.

    Raises:
        InputError: a file is missing, or a setting is not supported.
        CheckpointError: a tensor is missing, superfluous or of another shape.
    """
    given = read_json(directory / CONFIG)
    where = str(directory / CONFIG)
    name = given.get("model_type")
    if name not in registry.names("formats"):
        known = ", ".join(registry.names("formats"))
        raise InputError(f"model_type = {name!r} is not supported", where=where, hint=known)
    form: Format = registry.kind("formats", str(name))
    architecture = _architecture(form, given, where)
    prefix = form.architectures[architecture]
    tensors = {}
    for key, tensor in read_tensors(directory).items():
        key = key.removeprefix(prefix)
        if not any(matches(pattern, key) for pattern in form.ignored):
            tensors[key] = tensor
    settings = Settings(given, where, architecture=architecture, tensors=tensors)
    settings.ignore(["model_type", "architectures", *SILENT])
    family = registry.family(form.family)
    ours = form.read(settings)
    settings.done()
    config: Any = build(family.config, resolve(family.defaults, ours, stacks=family.stacks))
    model = on_meta(family, config)
    if "lm_head.weight" in tensors and getattr(config, "tie", "") == "all":
        del tensors["lm_head.weight"]  # stated twice by some writers
    return form, config, fill(model, form.table(config), tensors, where=str(directory))


def write_directory(form: Format, config: Any, tensors: Mapping[str, Tensor], to: Path) -> None:
    """Write a model as Hugging Face reads it: ``config.json`` and ``model.safetensors``."""
    from safetensors.torch import save_file

    family = registry.family(form.family)
    settings = {"model_type": form.model_type, **form.write(config)}
    prefix = form.architectures[settings["architectures"][0]]
    table = form.table(config)
    made = {
        (key if key.startswith(HEADS) else prefix + key): tensor
        for key, tensor in empty(on_meta(family, config), table, tensors).items()
    }
    save_file(made, to / WEIGHTS, metadata={"format": "pt"})
    (to / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no {path.name}", where=str(path.parent)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise InputError("is no JSON object", where=str(path))
    return found


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory's safetensors.

    Raises:
        InputError: there are none, or one cannot be read.
    """
    if (directory / INDEX).exists():
        shards = dict(read_json(directory / INDEX).get("weight_map", {}))
        files = [directory / name for name in dict.fromkeys(shards.values())]
    else:
        files = [directory / WEIGHTS]
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            found |= load_file(path)
        except FileNotFoundError:
            raise _missing(directory, path) from None
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot be read: {error}", where=str(path)) from error
    return found


def _missing(directory: Path, path: Path) -> InputError:
    if path.name == WEIGHTS and list(directory.glob("pytorch_model*.bin")):
        return InputError(
            "holds weights as a pickle, which may run any code: it is not read",
            where=str(directory / "pytorch_model.bin"),
            hint="convert it where you trust it, e.g. by transformers: "
            "AutoModel.from_pretrained(DIR).save_pretrained(OUT, safe_serialization=True)",
        )
    return InputError(f"there is no {path.name}", where=str(directory))


def _architecture(form: Format, given: Mapping[str, Any], where: str) -> str:
    """The one that the file names, or else the format's first."""
    for architecture in given.get("architectures") or []:
        if architecture not in form.architectures:
            raise InputError(
                f"the architecture {architecture!r} is not supported",
                where=where,
                hint=f"known: {', '.join(form.architectures)}",
            )
        return str(architecture)
    return next(iter(form.architectures))
