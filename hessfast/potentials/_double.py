"""Potentials in double precision."""

import copy
from typing import Any

from torch import nn


def in_double(potential: Any) -> Any:
    """A copy of a module in float64, and anything else itself."""
    return copy.deepcopy(potential).double() if isinstance(potential, nn.Module) else potential
