"""Pictures of attention, on any model made of regard's parts."""

from regard.look.neighbors import neighbors
from regard.look.picture import Picture, Predictor, look
from regard.look.positions import Positions, positions
from regard.look.trace import LayerAttention, Trace, trace

__all__ = [
    "LayerAttention",
    "Picture",
    "Positions",
    "Predictor",
    "Trace",
    "look",
    "neighbors",
    "positions",
    "trace",
]
