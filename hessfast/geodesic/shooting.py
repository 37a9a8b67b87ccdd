"""Geodesics from a point with a velocity, and the velocity that leads to another point."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hessfast import _arrays, _checks

from ._field import Field, field_of, units
from .connecting import connecting_geodesic

_MOST_SHOTS = 20


def expmap(potential: Any, start: Any, velocity: Any, *, num_steps: int = 50) -> Any:
    """Where the geodesic from each start with that velocity is at time 1, `[*batch, dim]`, by Runge and Kutta.

    The geodesic equation of a Hessian metric, x'' = -H^-1 T[x'] x' / 2, in steps of 1 / num_steps. NaN for geodesics
    that leave where the metric is positive definite. A call takes 4 num_steps evaluations of the metric and of
    its derivative, of all points at once; the error falls as num_steps^-4.

    Example:
        >>> expmap(lambda x: (x**2).sum(dim=-1) / 2, [0.0, 0.0], [1.0, 2.0]).round(9).tolist()
        [1.0, 2.0]
    """
    x, v = _checks.broadcast(
        start=_checks.float_array("start", start), velocity=_checks.float_array("velocity", velocity)
    )
    num_steps = _checks.integer("num_steps", num_steps, 1)
    if x.ndim < 1 or not x.shape[-1]:
        raise ValueError(f"start must have shape [*batch, dim], got {x.shape}.")
    field, dim = field_of(potential, None, x.shape[-1], exact=True), x.shape[-1]
    way = _shot(field, x.reshape(-1, dim), v.reshape(-1, dim), num_steps)
    return _arrays.as_given(x + way.reshape(x.shape), start)


def _shot(field: Field, start: np.ndarray, v: np.ndarray, num_steps: int) -> np.ndarray:
    """`expmap` of `[n, dim]` less the start, where rounding does not add up however far the origin is."""
    bend, h = field.metric_along, 1 / num_steps
    assert bend is not None
    x, v = np.zeros_like(start), v.copy()

    def acceleration(way: np.ndarray, v: np.ndarray) -> np.ndarray:
        x = start + way
        result = np.full_like(x, np.nan)
        known = np.asarray(np.isfinite(x).all(axis=1) & np.isfinite(v).all(axis=1))
        known[known] = field.inside(x[known])
        if known.any():
            metric = field.metric(x[known])
            definite = np.asarray(np.isfinite(metric).all(axis=(1, 2)))
            definite[definite] = np.linalg.eigvalsh(metric[definite])[:, 0] > 0
            known[known] = definite
            force = bend(x[known], v[known]) @ v[known][..., None]
            result[known] = -np.linalg.solve(metric[definite], force)[..., 0] / 2
        return result

    for _ in range(num_steps):
        a1 = acceleration(x, v)
        a2 = acceleration(x + h / 2 * v, v + h / 2 * a1)
        a3 = acceleration(x + h / 2 * v + h**2 / 4 * a1, v + h / 2 * a2)
        a4 = acceleration(x + h * v + h**2 / 2 * a2, v + h * a3)
        x, v = x + h * v + h**2 / 6 * (a1 + a2 + a3), v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
    return x


def logmap(
    potential: Any,
    start: Any,
    end: Any,
    *,
    num_steps: int = 50,
    tolerance: float = 1e-9,
    box: tuple[Any, Any] | None = None,
) -> Any:
    """The velocity with which `expmap` leads from each start to each end, `[*batch, dim]`.

    A geodesic by Newton's method gives a first velocity; shooting with secants sets the last digits right. NaN where
    shooting does not arrive.

    Args:
        potential, start, end, box: as of `connecting_geodesic`.
        num_steps: as of `expmap`, which is called some three times, for 1 + dim velocities a pair.
        tolerance: of the end, relative to its distance from the start.

    Example:
        >>> logmap(lambda x: (x**2).sum(dim=-1) / 2, [0.0, 0.0], [1.0, 2.0]).round(9).tolist()
        [1.0, 2.0]
    """
    num_steps, tolerance = _checks.integer("num_steps", num_steps, 1), _checks.positive("tolerance", tolerance)
    curve = connecting_geodesic(potential, start, end, box=box)
    points = _checks.to_numpy(curve.points).astype(np.float64)
    batch, (n, dim) = points.shape[:-2], (points.shape[-2] - 1, points.shape[-1])
    points = points.reshape(-1, n + 1, dim)
    field = field_of(potential, None, dim, exact=True)
    v = n * np.einsum("k,...ki->...i", np.array([-25, 48, -36, 16, -3]) / 12, points[:, :5])
    unit = units(field, points).step[:, 0]
    arrived = _aimed(lambda x, v: _shot(field, x, v, num_steps), points[:, 0], points[:, -1], v, unit, tolerance)
    return _arrays.as_given(arrived.reshape(*batch, dim), start)


def _aimed(
    shoot: Callable, x: np.ndarray, goal: np.ndarray, v: np.ndarray, unit: np.ndarray, tolerance: float
) -> np.ndarray:
    """Velocities that lead from x to goal, by Newton's method from v; NaN where it does not get there.

    Everything is compared in `units` `[n, dim]` of the coordinates.
    """
    v, dim, size = v.copy(), x.shape[1], np.abs((goal - x) / unit).max(axis=1)
    v[size == 0] = 0
    open_ones = np.flatnonzero(size > 0)
    for _ in range(_MOST_SHOTS):
        if not open_ones.size:
            return v
        now, one = v[open_ones], unit[open_ones]
        h = 1e-5 * np.abs(now / one).max(axis=1, keepdims=True)
        aims = np.stack([now, *(now + h * one * e for e in np.eye(dim))])
        ends = shoot(np.tile(x[open_ones], (dim + 1, 1)), aims.reshape(-1, dim)).reshape(aims.shape)
        miss, columns = (ends[0] - (goal - x)[open_ones]) / one, (ends[1:] - ends[0]) / one / h
        arrived = np.abs(miss).max(axis=1) <= tolerance * size[open_ones]
        lost = ~np.isfinite(ends).all(axis=(0, 2))
        v[open_ones[lost & ~arrived]] = np.nan
        going = ~arrived & ~lost
        jacobian = np.moveaxis(columns[:, going], 0, -1)
        v[open_ones[going]] -= one[going] * (np.linalg.pinv(jacobian) @ miss[going][..., None])[..., 0]
        open_ones = open_ones[going]
    v[open_ones] = np.nan
    return v
