"""Position schemes, a file per kind."""

from regard.nn.positions.alibi import Alibi
from regard.nn.positions.buckets import Buckets
from regard.nn.positions.grid import Grid
from regard.nn.positions.learned import Learned
from regard.nn.positions.rotary import Rotary
from regard.nn.positions.scheme import GridSize, NoPositions, PositionScheme, PositionSpec
from regard.nn.positions.shaw import Shaw
from regard.nn.positions.sinusoidal import Sinusoidal, sinusoids

__all__ = [
    "Alibi",
    "Buckets",
    "Grid",
    "GridSize",
    "Learned",
    "NoPositions",
    "PositionScheme",
    "PositionSpec",
    "Rotary",
    "Shaw",
    "Sinusoidal",
    "sinusoids",
]
