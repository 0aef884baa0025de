"""Pictures of attention, on any model made of regard's parts."""

from regard.look.neighbors import embeddings, neighbors
from regard.look.picture import Picture, Predictor, look
from regard.look.positions import Positions, positions
from regard.look.rollout import rollout
from regard.look.trace import LayerAttention, Trace, trace

__all__ = [
    "LayerAttention",
    "Picture",
    "Positions",
    "Predictor",
    "Trace",
    "embeddings",
    "look",
    "neighbors",
    "positions",
    "rollout",
    "trace",
]
