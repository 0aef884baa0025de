"""Position schemes, a file per kind."""

from regard.nn.positions.buckets import Buckets
from regard.nn.positions.learned import Learned
from regard.nn.positions.rotary import Rotary
from regard.nn.positions.scheme import NoPositions, PositionScheme, PositionSpec
from regard.nn.positions.sinusoidal import Sinusoidal, sinusoids

__all__ = [
    "Buckets",
    "Learned",
    "NoPositions",
    "PositionScheme",
    "PositionSpec",
    "Rotary",
    "Sinusoidal",
    "sinusoids",
]
