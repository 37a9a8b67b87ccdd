"""Distances from a point to all nodes of a grid."""

from typing import Any

import numpy as np
from scipy.sparse.csgraph import dijkstra

from hessfast import _arrays, _checks, _grid_paths
from hessfast.potentials import Table

from ._field import ROUNDING

_POCKETS = 0.01  # of the edges of a map may have a negative squared length: splines ring beside ridges


def distance_map(table: Table, source: Any, shape: tuple[int, int] = (257, 257)) -> Any:
    """Distances from a point to the nodes of a grid over the table's box, `[*shape]`, by shortest paths on the grid.

    Each node is joined to the 48 nearest in different directions: distances are those of curves made of such steps, too
    long by .8 % at most where the metric is isotropic in units of the cells, by several times that where it is not.

    Args:
        table: a convex potential in two dimensions.
        source: `[2]`; the node nearest to it is taken.
        shape: nodes along each axis, 5 or more.

    Example:
        >>> bowl = Table(lambda x: (x**2).sum(dim=-1) / 2, (0, 0), (4, 4), (8, 8))
        >>> float(distance_map(bowl, [0.0, 0.0], (5, 5))[3, 4].round(6))
        5.0

    Raises:
        ValueError: for a potential that is not convex, or a source outside the box. No path takes an edge of negative
            squared length; up to one in a hundred is borne.
    """
    if not isinstance(table, Table):
        raise TypeError(f"table must be a Table, got {type(table).__name__}.")
    point = _checks.float_array("source", source)
    if point.shape != (2,) or not table.inside(point[None]).all():
        raise ValueError(f"source must be a point in the table's box, got {point.tolist()}.")
    axes = table.axes(shape, 5)
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    means = table.gradient(nodes.reshape(-1, 2)).reshape(nodes.shape)
    reach = table.upper - table.lower
    size = np.abs(means).max(axis=(0, 1))
    noise = ROUNDING * (size * reach).max() / reach  # of eta, of a flat coordinate's too
    lengths = []
    for _, here, there in _grid_paths.edges(shape):
        dx = nodes[there] - nodes[here]
        squared = (dx * (means[there] - means[here])).sum(axis=-1)
        convex = squared >= -(np.abs(dx) * noise).sum(axis=-1) - 1e-9 * np.abs(squared).max()
        rounding = ROUNDING * (np.abs(dx) * size).sum(axis=-1)
        lengths.append(np.where(convex, np.sqrt(np.maximum(squared, rounding + 1e-300)), np.nan))
    if np.isnan(np.concatenate([each.ravel() for each in lengths])).mean() > _POCKETS:
        raise ValueError("table must be of a convex potential, got edges of negative squared length.")
    nearest = np.ravel_multi_index([np.abs(axis - x).argmin() for axis, x in zip(axes, point, strict=True)], shape)
    distances = dijkstra(_grid_paths.graph(shape, lengths), directed=False, indices=nearest).reshape(shape)
    return _arrays.as_given(distances, source)
