"""Regular grids of parameters, in any dimension."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessfast import _checks


@dataclass(frozen=True)
class Grid:
    """Equally spaced nodes in a box of parameter space.

    Attributes:
        lower: lowest node of each axis, `[dim]`.
        upper: highest node of each axis.
        shape: number of nodes of each axis, >= 2.

    Example:
        >>> grid = Grid((0.0, 0.0), (1.0, 2.0), (3, 5))
        >>> grid.points[1, 2].tolist()
        [0.5, 1.0]
        >>> Grid.cells((0.0,), (1.0,), (4,)).points[:, 0].tolist()
        [0.125, 0.375, 0.625, 0.875]
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    shape: tuple[int, ...]

    def __post_init__(self):
        lower, upper = (
            tuple(_checks.float_array(name, getattr(self, name)).ravel().tolist()) for name in ("lower", "upper")
        )
        shape = tuple(_checks.integer("shape", n, 2) for n in np.atleast_1d(np.asarray(self.shape, object)))
        if not 0 < len(lower) == len(upper) == len(shape):
            raise ValueError(
                "lower, upper and shape must have one entry an axis, and one axis or more, "
                f"got {len(lower)}, {len(upper)} and {len(shape)}."
            )
        if not all(a < b for a, b in zip(lower, upper, strict=True)):
            raise ValueError(f"upper must be above lower on every axis, got {lower} and {upper}.")
        for name, value in (("lower", lower), ("upper", upper), ("shape", shape)):
            object.__setattr__(self, name, value)

    @classmethod
    def cells(cls, lower: Any, upper: Any, shape: Any) -> "Grid":
        """The centres of the cells into which `shape` divides the box from `lower` to `upper`."""
        box = cls(lower, upper, shape)
        half = (np.array(box.upper) - box.lower) / box.shape / 2
        return cls(tuple(box.lower + half), tuple(box.upper - half), box.shape)

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.shape)

    @property
    def num_nodes(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)

    @property
    def axes(self) -> list[np.ndarray]:
        """Coordinates of the nodes along each axis."""
        return [np.linspace(a, b, n) for a, b, n in zip(self.lower, self.upper, self.shape, strict=True)]

    @property
    def points(self) -> np.ndarray:
        """All nodes, float64 `[*shape, dim]`."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1)

    def corners(self, parameters: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where multilinear interpolation puts points of parameter space.

        Returns:
            cells: flat index of the lowest corner of the cell of each point, int64 `[n]`.
            weights: of the 2^dim corners, float64 `[n, 2^dim]`; they are >= 0 and add to 1.
            offsets: flat index of each corner less that of the lowest, int64 `[2^dim]`.

        Raises:
            ValueError: for a point farther than half a cell beyond the box, with its place in `parameters`.

        Example:
            >>> cells, weights, offsets = Grid((0.0, 0.0), (1.0, 1.0), (2, 2)).corners([[0.25, 0.5]])
            >>> weights[0].tolist(), offsets.tolist()
            ([0.375, 0.375, 0.125, 0.125], [0, 1, 2, 3])
        """
        points = self.inside(parameters)
        steps = np.array(self.shape) - 1
        place = (points - self.lower) / (np.array(self.upper) - self.lower) * steps
        lowest = np.clip(np.floor(place).astype(np.int64), 0, steps - 1)
        strides = np.cumprod([1, *self.shape[:0:-1]])[::-1]
        corners = np.array(list(np.ndindex(*(2,) * self.dim)), np.int64)
        fraction = np.clip(place - lowest, 0, 1)[:, None]
        return lowest @ strides, np.where(corners, fraction, 1 - fraction).prod(axis=2), corners @ strides

    def nearest(self, parameters: Any) -> np.ndarray:
        """Flat index of the node nearest to each point, int64 `[n]`."""
        points = self.inside(parameters)
        steps = np.array(self.shape) - 1
        place = np.rint((points - self.lower) / (np.array(self.upper) - self.lower) * steps).astype(np.int64)
        return np.asarray(np.ravel_multi_index(tuple(np.clip(place, 0, steps).T), self.shape))

    def inside(self, parameters: Any) -> np.ndarray:
        """The points `[n, dim]` themselves, all of them in the cells around nodes.

        Raises:
            ValueError: for a point outside, with its place in `parameters`.

        Example:
            >>> Grid((0.0,), (1.0,), (2,)).inside([[1.25]]).tolist()
            [[1.25]]
        """
        points = _checks.float_array("parameters", parameters)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"parameters must have shape [n, {self.dim}] for this grid, got {points.shape}.")
        span = np.array(self.upper) - self.lower
        slack = span / (np.array(self.shape) - 1) / 2  # to the end of the cells of outer nodes
        outside = ((points < self.lower - slack * 1.000001) | (points > self.upper + slack * 1.000001)).any(axis=1)
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            raise ValueError(
                f"parameters must lie in the box of the grid, {self.lower} to {self.upper}, "
                f"got {points[first]} at {first}, farther than half a cell beyond."
            )
        return points


def checked_grid(grid: Any) -> Grid:
    """The grid, if it is one."""
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, got {type(grid).__name__}. Make one with Grid(lower, upper, shape).")
    return grid
