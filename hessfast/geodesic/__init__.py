"""Curves under the metric Hess phi of a potential: geodesics between many pairs of points, lengths, maps of distance.

Four kinds connect two points: "levi-civita", the geodesic of the metric, the shortest; "exponential" (e-geodesic),
straight in theta; "mixture" (m-geodesic), straight in eta = grad phi: geodesics of the two flat connections of
information geometry; "released", no geodesic, the optimum of the objective of the paper's released script, whose metric
is held fixed while it descends. Lengths and energies are those of polylines under phi itself, <dx, d eta> for
each segment, however sharp its ridges: energies are exact and never below the geodesic's, lengths come from above.

References:
    Amari, "Information Geometry and Its Applications", 2016, chapters 1, 2 and 6.
"""

from .connecting import KINDS, Curves, connecting_geodesic
from .maps import distance_map
from .polylines import curve_energy, curve_length, equidistant
from .shooting import expmap, logmap

__all__ = [
    "KINDS",
    "Curves",
    "connecting_geodesic",
    "curve_energy",
    "curve_length",
    "distance_map",
    "equidistant",
    "expmap",
    "logmap",
]
