"""Potentials in double precision."""

import copy
from typing import Any

from torch import nn

from hessfast import _checks


def in_double(potential: Any) -> Any:
    """A copy of a module in float64, and any other function itself."""
    return copy.deepcopy(potential).double() if isinstance(potential, nn.Module) else _checks.potential(potential)
