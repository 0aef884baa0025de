"""YOLOS as Hugging Face has it: ViT with detection tokens and what answers with their boxes."""

from __future__ import annotations

from typing import Any

from regard.interop import vit
from regard.interop.bert import write_labels
from regard.interop.format import Format, pairs
from regard.interop.settings import Settings
from regard.interop.slots import Entry, Table
from regard.models.vit import ViTConfig

_HEADS = {
    "head.classes.{}": "class_labels_classifier.layers.{}",
    "head.boxes.{}": "bbox_predictor.layers.{}",
}
_OBJECTIVE = (
    *("auxiliary_loss", "class_cost", "bbox_cost", "giou_cost", "bbox_loss_coefficient"),
    *("giou_loss_coefficient", "eos_coefficient"),
)
"""Settings of its training alone."""


def table(config: ViTConfig) -> Table:
    """Which tensor is which."""
    width, found, further = config.d_model, config.detections, config.num_layers - 1
    tokens = config.tokens
    return [
        *vit.table(config),
        Entry(
            "detection_tokens.weight",
            "embeddings.detection_tokens",
            axes=((found, width), (1, found, width)),
        ),
        Entry(
            "encoder.positions.further",
            "encoder.mid_position_embeddings",
            axes=((further, tokens, width), (further, 1, tokens, width)),
        ),
        *(Entry(ours, theirs) for ours, theirs in pairs(_HEADS).items()),
    ]


def read(given: Settings) -> dict[str, Any]:
    """Our settings."""
    given.ignore(_OBJECTIVE)
    body = vit.read_body(given)
    every_layer = given.take("use_mid_position_embeddings", True)
    return {
        **body,
        "detections": given.take("num_detection_tokens", 100),
        "positions": {"kind": "grid", "every_layer": every_layer},
        "head": {"kind": "boxes", "num_classes": vit.classes_of(given)},
    }


def write(config: ViTConfig) -> dict[str, Any]:
    """Their settings."""
    _, options = config.positions.resolve()
    return {
        "architectures": ["YolosForObjectDetection"],
        **vit.write_body(config),
        **write_labels(config),
        "num_detection_tokens": config.detections,
        "use_mid_position_embeddings": options.every_layer,
    }


FORMAT = Format(
    model_type="yolos",
    family="vit",
    architectures={"YolosForObjectDetection": "vit."},
    read=read,
    write=write,
    table=table,
    pixels=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
