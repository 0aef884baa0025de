"""RoBERTa as Hugging Face has it: BERT's body, and heads of its own.

Its positions begin after the padding token's id: rows 0 … ``pad_token_id`` of the table belong to
no token of a text. There positions are counted over the tokens that are no padding; here, as for
every family, they are 0, 1, 2 … unless ``positions`` are given, which matters for padding on the
left alone. The class token's hidden layer is our pooler.
"""

from __future__ import annotations

from typing import Any

from regard.interop import bert
from regard.interop.format import Format, pairs
from regard.interop.gpt2 import ACTIVATIONS
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.bert import BERTConfig

_MASKED = {"head.hidden": "lm_head.dense", "head.norm": "lm_head.layer_norm"}
_CLASSES = {"pooler.linear": "classifier.dense", "head.linear": "classifier.out_proj"}


def table(config: Any) -> Table:
    """Which tensor is which."""
    kind = config.head.kind
    chosen = _CLASSES if kind == "classification" else bert.CHOOSING.get(kind, _MASKED)
    heads = {"head.bias": "lm_head.bias", **pairs({**bert.SUMMARY, **chosen})}
    return [*bert.body(config), *(Entry(ours, theirs) for ours, theirs in heads.items())]


def tied(config: Any) -> list[tuple[str, str]]:
    """The masked head's matrix is the embedding."""
    return [
        ("embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        ("lm_head.bias", "lm_head.decoder.bias"),
    ]


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    offset = given.take("pad_token_id", 1) + 1
    activation = given.translate("hidden_act", ACTIVATIONS, "gelu")
    ours = bert.read_body(given, activation)
    return {
        **ours,
        "max_positions": ours["max_positions"] - offset,
        "positions": {"kind": "learned", "offset": offset},
        "head": bert.read_head(given, "gelu"),
    }


def write(config: BERTConfig) -> dict[str, Any]:
    """Their settings."""
    _, options = config.positions.resolve()
    offset = getattr(options, "offset", 0)
    return {
        **bert.write(config),
        "architectures": ["Roberta" + bert.ending_of(config)],
        "max_position_embeddings": config.max_positions + offset,
        "pad_token_id": offset - 1,
    }


FORMAT = Format(
    model_type="roberta",
    family="bert",
    architectures={
        name.replace("Bert", "Roberta"): prefix.replace("bert", "roberta")
        for name, prefix in bert.FORMAT.architectures.items()
        if name != "BertForPreTraining"
    },
    read=read,
    write=write,
    table=table,
    tied=tied,
    ignored=("embeddings.position_ids",),
    unused={
        "RobertaForMaskedLM": bert.POOLER,
        "RobertaForTokenClassification": bert.POOLER,
        "RobertaForQuestionAnswering": bert.POOLER,
    },
)
