"""What regard knows by name: families, tasks, and the kinds of each part.

Values are ``"module:attribute"`` strings, so that nothing is imported before it is used. Other
packages add to them through the entry-point groups ``regard.families``, ``regard.tasks`` and
``regard.kinds`` (there named ``group.name``), looked up only when a name is missing here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from regard.errors import RegardError

FAMILIES: dict[str, str] = {
    "transformer": "regard.models.transformer:FAMILY",
    "gpt": "regard.models.gpt:FAMILY",
    "bert": "regard.models.bert:FAMILY",
    "t5": "regard.models.t5:FAMILY",
    "vit": "regard.models.vit:FAMILY",
}

TASKS: dict[str, str] = {
    "translation": "regard.tasks.translation:TASK",
    "language-modeling": "regard.tasks.language_modeling:TASK",
    "masked-language-modeling": "regard.tasks.masked_language_modeling:TASK",
    "classification": "regard.tasks.classification:TASK",
    "image-classification": "regard.tasks.image_classification:TASK",
    "tagging": "regard.tasks.tagging:TASK",
    "question-answering": "regard.tasks.question_answering:TASK",
    "dialogue": "regard.tasks.dialogue:TASK",
    "text-to-text": "regard.tasks.text_to_text:TASK",
    "summarization": "regard.tasks.summarization:TASK",
    "object-detection": "regard.tasks.object_detection:TASK",
    "states": "regard.tasks.states:TASK",
}

KINDS: dict[str, dict[str, str]] = {
    "activations": {
        "relu": "regard.nn.feedforward:relu",
        "gelu": "regard.nn.feedforward:gelu",
        "gelu_tanh": "regard.nn.feedforward:gelu_tanh",
        "silu": "regard.nn.feedforward:silu",
    },
    "adapters": {
        "lora": "regard.nn.adapters:LoRA",
    },
    "formats": {
        "bert": "regard.interop.bert:FORMAT",
        "distilbert": "regard.interop.distilbert:FORMAT",
        "gpt2": "regard.interop.gpt2:FORMAT",
        "llama": "regard.interop.llama:FORMAT",
        "marian": "regard.interop.marian:FORMAT",
        "roberta": "regard.interop.roberta:FORMAT",
        "t5": "regard.interop.t5:FORMAT",
        "vit": "regard.interop.vit:FORMAT",
        "yolos": "regard.interop.yolos:FORMAT",
    },
    "feed_forwards": {
        "plain": "regard.nn.feedforward:FeedForward",
        "gated": "regard.nn.feedforward:GatedFeedForward",
    },
    "heads": {
        "none": "regard.nn.heads:NoHead",
        "pooled": "regard.nn.heads:PooledHead",
        "masked_lm": "regard.nn.heads:MaskedLanguageModelHead",
        "classification": "regard.nn.heads:ClassificationHead",
        "tokens": "regard.nn.heads:TokenHead",
        "span": "regard.nn.heads:SpanHead",
        "boxes": "regard.nn.heads:BoxesHead",
    },
    "kernels": {
        "dense": "regard.nn.kernels.dense:dense",
        "packed": "regard.nn.kernels.packed:packed",
        "fused": "regard.nn.kernels.fused:fused",
        "few": "regard.nn.kernels.few:few",
        "short": "regard.nn.kernels.short:short",
    },
    "norms": {
        "layernorm": "regard.nn.norms:LayerNorm",
        "rmsnorm": "regard.nn.norms:RMSNorm",
    },
    "objectives": {
        "cross_entropy": "regard.objectives.cross_entropy:CrossEntropy",
        "next_token": "regard.objectives.next_token:NextToken",
        "classes": "regard.objectives.classes:Classes",
        "multi_label": "regard.objectives.classes:MultiLabel",
        "regression": "regard.objectives.classes:Regression",
        "span": "regard.objectives.span:Span",
        "set_prediction": "regard.objectives.set_prediction:SetPrediction",
        "masked_lm": "regard.objectives.masked_lm:MaskedLM",
        "span_corruption": "regard.objectives.span_corruption:SpanCorruption",
    },
    "optimizers": {
        "adam": "regard.training.optimizers:adam",
        "adamw": "regard.training.optimizers:adamw",
        "adafactor": "regard.training.optimizers:adafactor",
    },
    "patterns": {
        "full": "regard.nn.masks:Full",
    },
    "positions": {
        "none": "regard.nn.positions.scheme:NoPositions",
        "sinusoidal": "regard.nn.positions.sinusoidal:Sinusoidal",
        "buckets": "regard.nn.positions.buckets:Buckets",
        "learned": "regard.nn.positions.learned:Learned",
        "rotary": "regard.nn.positions.rotary:Rotary",
        "shaw": "regard.nn.positions.shaw:Shaw",
        "alibi": "regard.nn.positions.alibi:Alibi",
        "grid": "regard.nn.positions.grid:Grid",
    },
    "schedules": {
        "noam": "regard.training.schedules:noam",
        "inverse_sqrt": "regard.training.schedules:inverse_sqrt",
        "cosine": "regard.training.schedules:cosine",
        "linear": "regard.training.schedules:linear",
        "constant": "regard.training.schedules:constant",
        "wsd": "regard.training.schedules:wsd",
    },
    "tokenizers": {
        "bpe": "regard.data.tokenizers.library:BpeTokenizer",
        "unigram": "regard.data.tokenizers.unigram:UnigramTokenizer",
        "wordpiece": "regard.data.tokenizers.wordpiece:WordPieceTokenizer",
        "bytes": "regard.data.tokenizers.plain:BytesTokenizer",
        "chars": "regard.data.tokenizers.plain:CharsTokenizer",
        "words": "regard.data.tokenizers.plain:WordsTokenizer",
        "imported": "regard.data.tokenizers.imported:ImportedTokenizer",
    },
}


@dataclass(frozen=True)
class Family:
    """An architecture's description of itself, so that laws and tools need not name it.

    Attributes:
        name: the registry's name.
        config: the frozen config dataclass.
        model: the ``nn.Module`` class, built from a config.
        presets: published sizes, as nested settings in the recipe's words.
        shape: ``decoder``, ``encoder``, ``encoder-decoder`` or ``towers``.
        tiny: a config small enough for the laws.
        example: ``(config, batch, length) -> keyword arguments`` for one forward pass.
        stacks: the config's fields that hold a ``StackSpec``; none where its settings are the
            config's own.
        defaults: settings of every preset that says nothing else, where they are not the parts'.
        can: abilities such as ``cache`` and ``causal``.
    """

    name: str
    config: type
    model: type
    presets: Mapping[str, Mapping[str, Any]]
    shape: str
    tiny: Callable[[], Any]
    example: Callable[[Any, int, int], dict[str, Any]]
    stacks: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    can: frozenset[str] = field(default_factory=frozenset)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when none is near."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None


def names(group: str) -> list[str]:
    """The names known in a group: ``families``, ``tasks`` or one of ``KINDS``."""
    return sorted(_table(group))


def family(name: str) -> Family:
    """The family called ``name``; its module is imported here."""
    found = _find("families", "family", name)
    assert isinstance(found, Family)
    return found


def task(name: str) -> Any:
    """The task called ``name``; its module is imported here."""
    return _find("tasks", "task", name)


def kind(group: str, name: str) -> Any:
    """The class or function of one kind, e.g. ``kind("positions", "learned")``."""
    return _find(group, group.removesuffix("s"), name)


def plugin(group: str, name: str) -> str | None:
    """The distribution that a name comes from, or None when it is regard's own."""
    if name in _table(group):
        return None
    for point in _points(group, name):
        return str(point.dist.name if point.dist else point.module)
    return None


def _table(group: str) -> dict[str, str]:
    tables = {"families": FAMILIES, "tasks": TASKS, **KINDS}
    if group not in tables:
        raise RegardError(f"there is no group of kinds called {group!r}")
    return tables[group]


def _find(group: str, noun: str, name: str) -> Any:
    table = _table(group)
    if name in table:
        module, _, attribute = table[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    for point in _points(group, name):
        return point.load()
    near = nearest(name, table)
    raise RegardError(
        f"unknown {noun.replace('_', ' ')} {name!r}",
        hint=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(sorted(table))}",
    )


def _points(group: str, name: str) -> list[Any]:
    if group in ("families", "tasks"):
        return list(entry_points(group=f"regard.{group}", name=name))
    return list(entry_points(group="regard.kinds", name=f"{group}.{name}"))
