"""Potentials, log Z or candidates for it: convex networks, closed forms, the paper's checkpoint, tables.

All but `Table` are modules that map parameters `[..., dim]` to one number, to be differentiated twice.
"""

from .closed_forms import CLOSED_FORMS, KinkedPotential, PolynomialPotential, SplinePotential, restored
from .networks import KINDS, ConvexPotential, LayerNormPotential, SoftplusPotential, Standardised, build
from .released import load_released
from .table import Table

__all__ = [
    "CLOSED_FORMS",
    "KINDS",
    "ConvexPotential",
    "KinkedPotential",
    "LayerNormPotential",
    "PolynomialPotential",
    "SoftplusPotential",
    "SplinePotential",
    "Standardised",
    "Table",
    "build",
    "load_released",
    "restored",
]
