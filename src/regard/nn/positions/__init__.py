"""Position schemes, a file per kind."""

from regard.nn.positions.grid import Grid
from regard.nn.positions.learned import Learned
from regard.nn.positions.rotary import Rotary
from regard.nn.positions.scheme import GridSize, NoPositions, PositionScheme, PositionSpec
from regard.nn.positions.sinusoidal import Sinusoidal, sinusoids

__all__ = [
    "Grid",
    "GridSize",
    "Learned",
    "NoPositions",
    "PositionScheme",
    "PositionSpec",
    "Rotary",
    "Sinusoidal",
    "sinusoids",
]
