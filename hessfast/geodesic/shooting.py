"""Geodesics from a point with a velocity, and the velocity that leads to another point."""

from typing import Any

import numpy as np

from hessfast import _arrays, _checks

from ._field import field_of
from .connecting import connecting_geodesic


def expmap(potential: Any, start: Any, velocity: Any, *, num_steps: int = 200) -> Any:
    """Where the geodesic from each start with that velocity is at time 1, `[*batch, dim]`, by Runge and Kutta.

    The geodesic equation of a Hessian metric, x'' = -H^-1 T[x'] x' / 2, in steps of 1 / num_steps.

    Raises:
        ArithmeticError: where the metric is singular or indefinite on the way.

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
    batch, dim = x.shape[:-1], x.shape[-1]
    field = field_of(potential, None, dim, exact=True)
    assert field.metric_along is not None
    bend = field.metric_along
    x, v, h = x.reshape(-1, dim), v.reshape(-1, dim), 1 / num_steps

    def acceleration(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        known = np.array([np.isfinite(row).all() for row in np.concatenate([x, v], axis=1)], bool)
        known[known] = field.inside(x[known])
        metric = np.zeros((len(x), dim, dim))
        metric[known] = field.metric(x[known])
        if not (kept := np.linalg.eigvalsh(metric)[:, 0] > 0).all():
            raise ArithmeticError(
                "velocity must keep the geodesic where the metric is positive definite, "
                f"which number {int(np.argmin(kept))} leaves; use a smaller one."
            )
        return -np.linalg.solve(metric, bend(x, v) @ v[..., None])[..., 0] / 2

    for _ in range(num_steps):
        a1 = acceleration(x, v)
        a2 = acceleration(x + h / 2 * v, v + h / 2 * a1)
        a3 = acceleration(x + h / 2 * v + h**2 / 4 * a1, v + h / 2 * a2)
        a4 = acceleration(x + h * v + h**2 / 2 * a2, v + h * a3)
        x, v = x + h * v + h**2 / 6 * (a1 + a2 + a3), v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
    return _arrays.as_given(x.reshape(*batch, dim), start)


def logmap(
    potential: Any,
    start: Any,
    end: Any,
    *,
    num_steps: int = 200,
    tolerance: float = 1e-9,
    box: tuple[Any, Any] | None = None,
) -> Any:
    """The velocity with which `expmap` leads from each start to each end, `[*batch, dim]`.

    A geodesic by Newton's method gives a first velocity; shooting with secants sets the last digits right.

    Args:
        potential, start, end, box: as of `connecting_geodesic`.
        num_steps: as of `expmap`.
        tolerance: of the end, relative to its distance from the start.

    Raises:
        ArithmeticError: where shooting does not arrive.

    Example:
        >>> logmap(lambda x: (x**2).sum(dim=-1) / 2, [0.0, 0.0], [1.0, 2.0]).round(9).tolist()
        [1.0, 2.0]
    """
    tolerance = _checks.positive("tolerance", tolerance)
    curve = connecting_geodesic(potential, start, end, box=box)
    points = _checks.float_array("points", curve.points)
    x, goal = points[..., 0, :], points[..., -1, :]
    n, dim = points.shape[-2] - 1, x.shape[-1]
    v = n * np.einsum("k,...ki->...i", np.array([-25, 48, -36, 16, -3]) / 12, points[..., :5, :])
    size = np.abs(goal - x).max(axis=-1)
    for _ in range(20):
        miss = expmap(potential, x, v, num_steps=num_steps) - goal
        if (np.abs(miss).max(axis=-1) <= tolerance * size).all():
            return _arrays.as_given(v, start)
        h = 1e-5 * np.abs(v).max(axis=-1, keepdims=True)
        columns = [(expmap(potential, x, v + h * e, num_steps=num_steps) - goal - miss) / h for e in np.eye(dim)]
        v = v - np.linalg.solve(np.stack(columns, axis=-1), miss[..., None])[..., 0]
    raise ArithmeticError(f"end must be within reach of shooting, missed by {np.abs(miss).max():.2g}.")
