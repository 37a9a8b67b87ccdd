"""Lengths and energies of polylines under a potential, and points at equal distances on them."""

from typing import Any

import numpy as np

from hessfast import _arrays, _checks, _polylines

from ._field import at, field_of, refuse_unknown, squared_lengths


def curve_length(potential: Any, points: Any) -> Any:
    """Lengths of polylines `[*batch, num_points, dim]`: sum of sqrt(<dx, d eta>) over segments, `[*batch]`.

    Example:
        >>> curve_length(lambda x: (x**2).sum(dim=-1) / 2, [[0.0, 0.0], [3.0, 4.0]]).round(9).tolist()
        5.0
    """
    return _arrays.as_given(_lengths(potential, points).sum(axis=-1), points)


def curve_energy(potential: Any, points: Any) -> Any:
    """(num_points - 1) sum of <dx, d eta> of polylines `[*batch, num_points, dim]`, `[*batch]`.

    Example:
        >>> curve_energy(lambda x: (x**2).sum(dim=-1) / 2, [[0.0, 0.0], [1.5, 2.0], [3.0, 4.0]]).round(9).tolist()
        25.0
    """
    steps, _ = _steps(potential, points)
    return _arrays.as_given(steps.shape[-1] * steps.sum(axis=-1), points)


def equidistant(potential: Any, points: Any, num: int = 10) -> Any:
    """`num` points on each polyline `[*batch, num_points, dim]`, ends among them, at equal distances of the metric.

    Example:
        >>> equidistant(lambda x: (x**4).sum(dim=-1) / 12, np.linspace([0.0], [1.0], 1001), 3).round(4).tolist()
        [[0.0], [0.7071], [1.0]]
    """
    num = _checks.integer("num", num, 2)
    polylines = _checks.float_array("points", points)
    along = _lengths(potential, points)
    batch, dim = polylines.shape[:-2], polylines.shape[-1]
    result = np.empty((int(np.prod(batch)), num, dim))
    rows = zip(polylines.reshape(-1, *polylines.shape[-2:]), along.reshape(-1, along.shape[-1]), strict=True)
    for k, (polyline, steps) in enumerate(rows):
        result[k] = _polylines.equidistant(polyline, steps, num)
    return _arrays.as_given(result.reshape(*batch, num, dim), points)


def _steps(potential: Any, points: Any) -> tuple[np.ndarray, np.ndarray]:
    """<dx, d eta> of every segment and what rounding may do to it, `[*batch, num_points - 1]`."""
    polylines = _checks.float_array("points", points)
    if polylines.ndim < 2 or polylines.shape[-2] < 2:
        raise ValueError(f"points must have shape [*batch, num_points, dim], got {polylines.shape}.")
    field = field_of(potential, None, polylines.shape[-1])
    if not field.inside(polylines.reshape(-1, polylines.shape[-1])).all():
        raise ValueError("points must be in the table's box, got some outside. Use a larger table.")
    means = at(field.mean, polylines)
    refuse_unknown("points", polylines, means)
    return squared_lengths(polylines, means)


def _lengths(potential: Any, points: Any) -> np.ndarray:
    """Of segments; negative squares are refused."""
    steps, noise = _steps(potential, points)
    if concave(steps, noise).any():
        raise ValueError("potential must be convex along the curve, got a segment of negative squared length.")
    return np.sqrt(np.maximum(steps, 0))


def concave(steps: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which segments have a negative squared length, rounding aside."""
    return steps < -1e-9 * np.abs(steps).max(axis=-1, initial=0, keepdims=True) - noise
