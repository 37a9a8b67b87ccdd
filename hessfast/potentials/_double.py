"""Potentials in double precision."""

import copy
from typing import Any

from torch import Tensor, nn

from hessfast import _checks


def in_double(potential: Any) -> Any:
    """A copy of a module in float64, and any other function itself."""
    return copy.deepcopy(potential).double() if isinstance(potential, nn.Module) else _checks.potential(potential)


def called(potential: Any, points: Tensor) -> Any:
    """What the potential makes of points, or a sentence where it wants another dtype."""
    remedy = "Pass the module itself, or a function that converts them, as lambda x: -network(x.float())."
    return _checks.of_dtype(lambda: potential(points), f"potential must take points of {points.dtype}", remedy)
