"""A potential as curves see it: its gradient, its Hessian, and where it is known."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hessfast import _checks
from hessfast._modules import in_double
from hessfast.derivatives import fisher_metric, gradient, hessian_along
from hessfast.derivatives.perceptrons import known_perceptron
from hessfast.potentials import Table

ROUNDING = 1024 * np.finfo(float).eps  # of eta, relative to the largest of a curve: splines lose three digits
_FLAT = 1e-6  # of eta
_LOST = 0.1  # share of the squared length that rounding of eta may be


class Field(NamedTuple):
    """phi at points `[n, dim]`: its gradient, its Hessian, the change of that along vectors, and where phi is known.

    Gradient and Hessian are NaN where phi is not finite: no step is taken to there, for no energy is below NaN. The
    change is None where it would cost more than it saves; differences of Hessians take its place.
    """

    mean: Callable[[np.ndarray], np.ndarray]
    metric: Callable[[np.ndarray], np.ndarray]
    metric_along: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    inside: Callable[[np.ndarray], np.ndarray]


def field_of(potential: Any, box: tuple[Any, Any] | None, dim: int, exact: bool = False) -> Field:
    """The potential as Newton's method sees it; a box of its own shrinks a table's.

    Modules are copied to float64: second differences of eta along a curve are lost in float32. Of the metric six digits
    do, unless it must be `exact`, so that perceptrons keep their kernel and differences replace its change.
    """
    potential = _checks.potential(potential)
    if isinstance(potential, Table):
        if dim != 2:
            raise ValueError(f"start must have two coordinates for a Table, got {dim}.")
        field = Field(potential._gradient, potential._hessian, potential._hessian_along, potential.inside)
    else:
        double = in_double(potential)
        quick = not exact and known_perceptron(potential) is not None
        field = Field(
            lambda x: gradient(double, x),
            lambda x: fisher_metric(potential if quick else double, x),
            None if quick else lambda x, w: hessian_along(double, x, w),
            lambda x: np.ones(len(x), bool),
        )
    if box is None:
        return field
    corners = _checks.float_array("box", box)
    if corners.shape != (2, dim) or not (corners[0] < corners[1]).all():
        raise ValueError(f"box must be lowest and highest coordinates, {dim} each, got {box}.")
    low, high = corners
    return field._replace(inside=lambda x: ((x >= low) & (x <= high)).all(axis=1) & field.inside(x))


def refuse_unknown(name: str, points: np.ndarray, means: np.ndarray) -> None:
    """Points where phi is not finite, and with it its gradient."""
    if (unknown := ~np.isfinite(means).all(axis=-1)).any():
        raise ValueError(
            f"{name} must be where the potential is finite, got {points[unknown][0].tolist()}. Choose others."
        )


def at(function, points: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """`function` of flat batches, in the shape in which they came."""
    shape = points.shape[:-1]
    values = function(*(x.reshape(-1, x.shape[-1]) for x in (points, *more)))
    return values.reshape(*shape, *values.shape[1:])


def squared_lengths(points: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """<dx, d eta> of every segment of polylines `[..., n + 1, dim]`, and how far rounding of eta may move each."""
    dx = np.diff(points, axis=-2)
    size = np.abs(means).max(axis=-2, initial=0, keepdims=True)
    return (dx * np.diff(means, axis=-2)).sum(axis=-1), ROUNDING * (np.abs(dx) * size).sum(axis=-1)


def lost_to_rounding(field: Field, points: np.ndarray, steps: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which curves `[pairs, n + 1, dim]` are too short for differences of eta, though their metric is no rounding."""
    result = noise.sum(axis=1) > _LOST * np.abs(steps).sum(axis=1)
    if result.any():
        short = points[result]
        dx, metric = np.diff(short, axis=1), at(field.metric, short[:, 1:])
        squared = np.einsum("pki,pkij,pkj->p", dx, metric, dx)
        result[result] = squared > 4 * (units(field, short).least * dx**2).sum(axis=(1, 2))
    return result


class Units(NamedTuple):
    """Of coordinates along polylines, `[pairs, 1, dim]` each.

    Attributes:
        step: of about length one. What is compared across coordinates is measured in it, so that their own units do not
            matter. A coordinate along which eta hardly changes counts as if it changed by a millionth of its size.
        least: metric that eta may have by rounding alone.
    """

    step: np.ndarray
    least: np.ndarray


def units(field: Field, points: np.ndarray) -> Units:
    """Of polylines `[pairs, n, dim]`."""
    metric, means = at(field.metric, points), at(field.mean, points)
    squares = np.abs(np.diagonal(metric, axis1=-2, axis2=-1))
    known = np.isfinite(squares).all(axis=-1, keepdims=True)
    squares = np.where(known, squares, 0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    size = np.maximum(np.ptp(points, axis=1), np.abs(points).max(axis=1))[:, None]
    steep = np.where(known, np.abs(means), 0).max(axis=1, keepdims=True) / np.where(size > 0, size, 1)
    squares = np.maximum(squares, _FLAT * steep)
    return Units(1 / np.sqrt(np.where(squares > 0, squares, 1)), ROUNDING * steep)
