"""Hugging Face's directories: ``config.json`` and safetensors, in one file or in shards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from regard import registry
from regard.cost import on_meta
from regard.errors import CheckpointError, InputError, RecipeError, RegardError
from regard.interop.files import read_json
from regard.interop.format import Format
from regard.interop.settings import Settings
from regard.interop.slots import empty, fill, matches
from regard.nn.attention import AttentionSpec
from regard.nn.norms import NormSpec
from regard.recipe.layers import flatten
from regard.registry import Family
from regard.spec import KindSpec, build, resolve

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

HEADS = (
    *("lm_head.", "cls.", "classifier.", "qa_outputs.", "vocab_", "final_logits_bias"),
    *("class_labels_classifier.", "bbox_predictor."),
)
"""Tensors outside the body, whose names have no prefix."""

SILENT = (
    *("_name_or_path", "_num_labels", "transformers_version", "torch_dtype", "dtype", "use_cache"),
    *("initializer_range", "init_std", "output_past", "gradient_checkpointing", "model_max_length"),
    *("_attn_implementation", "attn_implementation", "return_dict", "torchscript", "use_bfloat16"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "output_attentions", "output_hidden_states", "embd_layer_norm"),
    *("task_specific_params", "finetuning_task", "id2label", "label2id", "problem_type"),
    *("num_labels", "tokenizer_class", "directionality", "pooler_fc_size", "pooler_type"),
    *("pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head"),
    # Of generation, and of special tokens, which the tokenizer has.
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens"),
    *("max_length", "min_length", "num_beams", "num_beam_groups", "num_return_sequences"),
    *("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"),
    *("length_penalty", "early_stopping", "no_repeat_ngram_size", "diversity_penalty"),
    *("encoder_no_repeat_ngram_size", "begin_suppress_tokens", "remove_invalid_values"),
    *("exponential_decay_length_penalty", "output_scores", "return_dict_in_generate", "prefix"),
)
"""Keys that say nothing about the numbers of a forward pass."""

_OLDER = {".gamma": ".weight", ".beta": ".bias"}


@dataclass(frozen=True)
class Found:
    """A model in the field's form.

    Attributes:
        form: of its files.
        config: ours.
        tensors: our parameters, in the file's dtype.
        given: the content of ``config.json``.
        left_out: names of tensors that belong to no part of this architecture.
    """

    form: Format
    config: Any
    tensors: dict[str, Tensor]
    given: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def read_directory(directory: Path) -> Found:
    """A model in the field's form as ours.

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
        for older, newer in _OLDER.items():
            key = key.removesuffix(older) + newer if key.endswith(older) else key
        tensors[key.removeprefix(prefix)] = tensor
    left_out = tuple(key for key in tensors if key in form.unused.get(architecture, ()))
    tensors = {
        key: tensor
        for key, tensor in tensors.items()
        if key not in left_out and not any(matches(one, key) for one in form.ignored)
    }
    config = _config(form, Settings(given, where, architecture=architecture, tensors=tensors))
    _join_tied(tensors, form, config, str(directory))
    model = on_meta(registry.family(form.family), config)
    filled = fill(model, form.table(config), tensors, where=str(directory))
    return Found(form, config, filled, given, left_out)


def _config(form: Format, settings: Settings) -> Any:
    """Our config from their settings, every one of them understood."""
    family = registry.family(form.family)
    settings.ignore(["model_type", "architectures"])
    try:
        ours = form.read(settings)
        settings.ignore(SILENT)
        settings.done()
        return build(family.config, resolve(family.defaults, ours, stacks=family.stacks))
    except RecipeError as error:
        raise settings.refusal(f"a setting cannot be: {error.where}: {error.what}") from error
    except (TypeError, ValueError) as error:  # a word where a number is computed with
        raise settings.refusal(f"a setting has another type: {error}") from error


def _join_tied(tensors: dict[str, Tensor], form: Format, config: Any, where: str) -> None:
    """Of tensors that are one, keep the one that the table names."""
    for first, other in form.tied(config):
        if other not in tensors:
            continue
        tensor = tensors.pop(other)
        if not torch.equal(tensors.setdefault(first, tensor), tensor):
            raise CheckpointError(f"{first} and {other} are one, but differ", where=where)


def form_for(family: str, config: Any) -> tuple[Format, list[str]]:
    """The format that can say a config of ours; names of dropouts that it cannot say.

    Raises:
        InputError: none can.
    """
    faults = []
    wanted = _spelled_out(registry.family(family), config)
    for name in registry.names("formats"):
        form: Format = registry.kind("formats", name)
        if form.family != family:
            continue
        try:
            model = on_meta(registry.family(family), config)
            tensors = empty(model, form.table(config), dict(model.named_parameters()))
            written = {"model_type": name, **form.write(config)}
            architecture = _architecture(form, written, name)
            settings = Settings(written, name, architecture=architecture, tensors=tensors)
            made = _spelled_out(registry.family(family), _config(form, settings))
        except (RegardError, AttributeError, KeyError) as error:
            faults.append(f"{name}: {error}")
            continue
        differing = [key for key in wanted.keys() | made.keys() if wanted.get(key) != made.get(key)]
        other = sorted(key for key in differing if not key.endswith("dropout"))
        if not other:
            return form, sorted(differing)
        said = ", ".join(f"{key} = {wanted.get(key)!r}" for key in other[:3])
        faults.append(f"{name} cannot say {said}")
    raise InputError(
        f"no format of the field can say this {family}",
        hint="; ".join(faults) or None,
    )


def _spelled_out(family: Family, config: Any) -> dict[str, Any]:
    """Settings by dotted key, those said by others too: two configs of one model are equal."""

    def spell(part: Any) -> Any:
        if isinstance(part, KindSpec):
            _, options = part.resolve()
            return {"kind": part.kind, **({} if options is None else dataclasses.asdict(options))}
        if isinstance(part, AttentionSpec):
            d_key, d_value = part.widths(config.d_model)
            part = dataclasses.replace(
                part, d_key=d_key, d_value=d_value, num_kv_heads=part.kv_heads
            )
        if isinstance(part, NormSpec):  # not said is what the kind usually has
            biased = part.kind == "layernorm" if part.bias is None else part.bias
            part = dataclasses.replace(part, bias=biased)
        if dataclasses.is_dataclass(part):
            return {one.name: spell(getattr(part, one.name)) for one in dataclasses.fields(part)}
        return part

    found = flatten(spell(config))
    if "pooler" in found:  # heads that read no summary have none
        found["pooler"] = cast(Any, on_meta(family, config)).pooler is not None
    if "target_vocab_size" in found:
        found["target_vocab_size"] = config.target_vocabulary
    return found


def write_directory(
    form: Format,
    config: Any,
    tensors: Mapping[str, Tensor],
    to: Path,
    special: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Write a model as Hugging Face reads it: ``config.json`` and ``model.safetensors``.

    Args:
        form: of the files.
        config: ours.
        tensors: our parameters.
        to: a directory.
        special: what only a run tells, by its names there, e.g. ``eos_token_id``.
        labels: names of the classes that the head chooses between.
    """
    from safetensors.torch import save_file

    family = registry.family(form.family)
    settings = {"model_type": form.model_type, **(special or {}), **form.write(config)}
    if labels:
        settings["id2label"] = {str(i): label for i, label in enumerate(labels)}
        settings["label2id"] = {label: i for i, label in enumerate(labels)}
    prefix = form.architectures[settings["architectures"][0]]
    table = form.table(config)
    made = {
        (key if key.startswith(HEADS) else prefix + key): tensor
        for key, tensor in empty(on_meta(family, config), table, tensors).items()
    }
    save_file(made, to / WEIGHTS, metadata={"format": "pt"})
    (to / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


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
        if path.parent != directory:
            raise InputError(f"names a file elsewhere: {path}", where=str(directory / INDEX))
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
