"""Curves between many pairs of points, of four kinds."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessfast import _arrays, _checks
from hessfast._reprs import span

from . import _mixture, _newton, _released
from ._field import at, field_of, lost_to_rounding, refuse_unknown, squared_lengths
from .polylines import concave

KINDS = ("levi-civita", "exponential", "mixture", "released")
_MOST_STEPS = 100  # of Newton's method on each mesh


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves between pairs of points.

    Attributes:
        points: `[*batch, num_points, dim]`, at equal steps of the curve's parameter.
        length: `[*batch]`, sum of sqrt(<dx, d eta>); NaN where a segment has <dx, d eta> < 0 or phi is not finite.
        energy: `[*batch]`, num_points - 1 times the sum of <dx, d eta>: for a geodesic the length squared.
        residual: `[*batch]`; Newton's decrement over the energy (levi-civita); the relative residual of the equation
            that is solved (mixture, released); 0 (exponential). Infinite where a curve is no minimum of the energy, as
            where phi is convex along it and not across: there is no shortest path then.
        converged: bool `[*batch]`, residual < tolerance, and the length neither NaN nor lost to rounding of eta. It
            does not judge the mesh: long curves, and those through kinks narrower than a segment, are too long, or do
            not converge, without more `num_points`. A curve that would touch the box, as a Table's, does not converge
            with any: `distance_map` finds its length.
        iterations: int `[*batch]`.
    """

    points: Any
    length: Any
    energy: Any
    residual: Any
    converged: Any
    iterations: Any

    def __repr__(self) -> str:
        *batch, num_points, dim = self.points.shape
        num, converged = math.prod(batch), int(self.converged.sum())
        of = f"{num_points} points in {dim} dimensions"
        return f"Curves({num} of {of}, {converged} converged{span('length', self.length)})"


def connecting_geodesic(
    potential: Any,
    start: Any,
    end: Any,
    kind: str = "levi-civita",
    *,
    num_points: int = 90,
    tolerance: float = 1e-6,
    box: tuple[Any, Any] | None = None,
) -> Curves:
    """Curves from each start to each end.

    Args:
        potential: phi: a module or callable as in `derivatives`, a fitted `LogPartition` or
            `ExponentialFamilyPosterior`, or a `Table`, which is much faster than a network.
        start, end: `[*batch, dim]`.
        kind: "levi-civita"; "exponential" (e-geodesic), straight in theta; "mixture" (m-geodesic), straight in eta;
            "released", no geodesic: the optimum of the released script's objective.
        num_points: of a curve, both ends among them.
        tolerance: of the residual; the length is then right to about a quarter of it, beside the mesh.
        box: lowest and highest coordinates that curves may take; None: a Table's own, or none.

    Raises:
        ValueError: for points outside the box or where phi is not finite, NaN, shapes that do not fit. Curves keep to
            where phi is finite; if the straight line does not, the length is NaN: a box may help.

    Example:
        Two classes: log Z = log(1 + e^a), a half circle of radius 2 in the angle of sqrt(p).

        >>> import torch
        >>> curve = connecting_geodesic(lambda x: torch.log1p(x.exp()).sum(dim=-1), [[-1.0]], [[2.0]])
        >>> p, q = 1 / (1 + np.exp([1.0, -2.0]))
        >>> bool(abs(curve.length[0] - 2 * (np.arcsin(q**0.5) - np.arcsin(p**0.5))) < 1e-4)
        True
    """
    _checks.choice("kind", kind, KINDS)
    num_points = _checks.integer("num_points", num_points, 3)
    tolerance = _checks.positive("tolerance", tolerance)
    a, b = _checks.broadcast(start=_checks.float_array("start", start), end=_checks.float_array("end", end))
    if a.ndim < 1 or not a.shape[-1]:
        raise ValueError(f"start must have shape [*batch, dim], got {a.shape}.")
    batch, dim = a.shape[:-1], a.shape[-1]
    a, b = a.reshape(-1, dim), b.reshape(-1, dim)
    field = field_of(potential, box, dim)
    for name, ends in (("start", a), ("end", b)):
        if not field.inside(ends).all():
            outside = ends[~field.inside(ends)][0]
            raise ValueError(f"{name} must be in the box, got {outside.tolist()}. Choose another, or a larger box.")
        refuse_unknown(name, ends, field.mean(ends))
    n = num_points - 1
    line = a[:, None] + np.linspace(0, 1, num_points)[:, None] * (b - a)[:, None]
    points, residual, iterations = line.copy(), np.zeros(len(a)), np.zeros(len(a), int)
    apart = (a != b).any(axis=1)  # a curve from a point to itself stays there
    if kind != "exponential" and apart.any():
        if kind == "levi-civita":
            found = _newton.connect(field, a[apart], b[apart], n, tolerance, _MOST_STEPS)
        else:
            solve = _mixture.straight_in_eta if kind == "mixture" else _released.released
            found = solve(field, line[apart], tolerance, _MOST_STEPS)
        points[apart], residual[apart], iterations[apart] = found
    means = at(field.mean, points)
    steps, noise = squared_lengths(points, means)
    length = np.where(concave(steps, noise).any(axis=1), np.nan, np.sqrt(np.maximum(steps, 0)).sum(axis=1))
    converged = (residual < tolerance) & ~np.isnan(length) & ~lost_to_rounding(field, points, steps, noise)
    results = points, length, n * steps.sum(axis=1), residual, converged, iterations
    return Curves(*(_arrays.as_given(x.reshape((*batch, *x.shape[1:])), start) for x in results))
