"""Windows of a slice: where neighbours differ most, and the nodes around that place."""

from typing import Any

import numpy as np
from scipy.spatial import KDTree

from hessfast import _checks
from hessfast.posterior import Grid

from .plan import SlicePlan


def steepest(grid: Grid, values: Any, points_per_axis: int = 9) -> Grid:
    """The window, two spacings wide and in the box of the grid, around the neighbours whose values differ most.

    Args:
        grid: nodes.
        values: features of its nodes in order, `[num_nodes, ...]`.
        points_per_axis: of the window, >= 2.

    Example:
        >>> steepest(Grid((0.0,), (1.0,), (5,)), [0.0, 0.0, 0.1, 0.9, 1.0], 5).axes[0].tolist()
        [0.375, 0.5, 0.625, 0.75, 0.875]
    """
    values = _checks.float_array("values", values)
    if values.ndim < 1 or len(values) != grid.num_nodes:
        raise ValueError(f"values must have one row for each of {grid.num_nodes} nodes, got shape {values.shape}.")
    return around(largest_jump(grid, values)[1], spacing(grid), (points_per_axis,) * grid.dim, grid)


def largest_jump(grid: Grid, values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The axis of the largest jump between neighbours, the middle of its pair, and all jumps along that axis."""
    values = values.reshape(*grid.shape, -1)
    jumps = [np.linalg.norm(np.diff(values, axis=k), axis=-1) for k in range(grid.dim)]
    axis = int(np.argmax([each.max() for each in jumps]))
    pair = np.unravel_index(int(jumps[axis].argmax()), jumps[axis].shape)
    other = tuple(index + (k == axis) for k, index in enumerate(pair))
    return axis, (grid.points[pair] + grid.points[other]) / 2, jumps[axis]


def jumps(values: np.ndarray) -> np.ndarray:
    """The largest distance of each node's values to a neighbour's along an axis, `[*shape]` of `[*shape, d]`."""
    jump = np.zeros(values.shape[:-1])
    for axis in range(jump.ndim):
        steps = np.linalg.norm(np.diff(values, axis=axis), axis=-1)
        for first in (0, 1):
            part = tuple(slice(first, first + n) if k == axis else slice(None) for k, n in enumerate(steps.shape))
            jump[part] = np.maximum(jump[part], steps)
    return jump


def around(place: np.ndarray, half: np.ndarray, shape: tuple[int, ...], within: Grid) -> Grid:
    """Nodes in the window of that half width, moved into the box of `within`.

    Where float64 has no room for it, it lies between two of its numbers.
    """
    lower, upper = place - half, place + half
    lowest, highest = np.array(within.lower), np.array(within.upper)
    lower, upper = np.where(lower < lowest, lowest, lower), np.where(lower < lowest, lowest + 2 * half, upper)
    lower, upper = np.where(upper > highest, highest - 2 * half, lower), np.where(upper > highest, highest, upper)
    return Grid(tuple(lower), tuple(np.maximum(upper, np.nextafter(lower, np.inf))), shape)


def box(plan: SlicePlan, points_per_axis: int) -> Grid:
    """So many nodes an axis in the box of a plan's points."""
    lower, upper = plan.parameters.min(axis=0), plan.parameters.max(axis=0)
    if not (lower < upper).all():
        raise ValueError(f"plan must have points that differ on every axis, got {lower.tolist()} to {upper.tolist()}.")
    return Grid(tuple(lower), tuple(upper), (points_per_axis,) * plan.dim)


def spacing(grid: Grid) -> np.ndarray:
    """Distance between neighbours along each axis."""
    return (np.array(grid.upper) - grid.lower) / (np.array(grid.shape) - 1)


def apart(plan: SlicePlan) -> float:
    """How near neighbours are along the finest axis of a grid, or points of a list to the nearest other, by median."""
    if isinstance(plan.points, Grid):
        return float(spacing(plan.points).min())
    places = np.unique(plan.parameters, axis=0)
    if len(places) < 2:
        return np.inf
    nearest: np.ndarray = np.asarray(KDTree(places).query(places, k=2)[0])[:, 1]  # [0] is the point itself
    return float(np.median(nearest))
