"""A potential in two dimensions, tabulated on a grid."""

from typing import Any

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline

from hessfast import _arrays, _checks
from hessfast._modules import in_double, weight_of

_CHUNK = 4096  # nodes at a time


class Table:
    """A potential in two dimensions as a quintic spline through its values on a grid: derivatives at no extra cost.

    Args:
        potential: maps points `[n, 2]` to `[n]`, tensor or array; or a fitted `LogPartition` or
            `ExponentialFamilyPosterior`.
        lower, upper: corners of the box; beyond it there is no potential.
        shape: nodes along each axis, 6 or more; features of phi narrower than two cells are lost.

    Example:
        >>> table = Table(lambda x: (x**2).sum(dim=-1), (0.0, 0.0), (1.0, 1.0), (8, 8))
        >>> table.hessian(np.array([[0.3, 0.4]])).round(6).diagonal(axis1=1, axis2=2).tolist()
        [[2.0, 2.0]]
    """

    def __init__(self, potential: Any, lower: Any, upper: Any, shape: tuple[int, int] = (128, 128)):
        self._set_box(lower, upper)
        axes = self.axes(shape)
        nodes = torch.as_tensor(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))
        potential = in_double(potential)
        weight = weight_of(potential)
        device = nodes.device if weight is None else weight.device
        with torch.no_grad():
            parts = [_checks.called(potential, some.to(device)) for some in nodes.split(_CHUNK)]
        values = np.concatenate([_arrays.to_numpy(part).reshape(-1) for part in parts])
        if len(values) != len(nodes):
            raise ValueError(
                f"potential must map points [{len(nodes)}, 2] to [{len(nodes)}], got {len(values)} numbers."
            )
        self._fit(axes, values.reshape([len(axis) for axis in axes]))

    @classmethod
    def from_values(cls, lower: Any, upper: Any, values: Any) -> "Table":
        """Of values `[m, n]` that are known at the nodes of uniform axes.

        Example:
            >>> x = np.linspace(-1, 1, 21)
            >>> Table.from_values((-1, -1), (1, 1), x[:, None] ** 2 + x**2)([0.5, -0.5]).round(9).tolist()
            0.5
        """
        table, values = cls.__new__(cls), _checks.float_array("values", values)
        if values.ndim != 2:
            raise ValueError(f"values must have shape [m, n], got {values.shape}.")
        table._set_box(lower, upper)
        table._fit(table.axes(values.shape), values)
        return table

    def _set_box(self, lower: Any, upper: Any) -> None:
        self.lower, self.upper = (_checks.float_array(*x) for x in (("lower", lower), ("upper", upper)))
        if self.lower.shape != (2,) or self.upper.shape != (2,) or not (self.lower < self.upper).all():
            raise ValueError(f"lower and upper must be corners of a box in two dimensions, got {lower} and {upper}.")

    def _fit(self, axes: list[np.ndarray], values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise ValueError("potential must be finite all over the box, got NaN or infinity. Choose a smaller one.")
        self._spline = RectBivariateSpline(axes[0], axes[1], values, kx=5, ky=5)

    def __call__(self, points: Any) -> Any:
        """phi at points `[*batch, 2]`."""
        x = self._known(points)
        return _arrays.as_given(self._spline.ev(x[..., 0], x[..., 1]), points)

    def gradient(self, points: Any) -> Any:
        """Of phi at points `[*batch, 2]`, `[*batch, 2]`."""
        return _arrays.as_given(self._gradient(self._known(points)), points)

    def hessian(self, points: Any) -> Any:
        """Of phi at points `[*batch, 2]`, `[*batch, 2, 2]`."""
        return _arrays.as_given(self._hessian(self._known(points)), points)

    def hessian_along(self, points: Any, vectors: Any) -> Any:
        """d/ds H(x + s w) at s = 0, at points `[*batch, 2]` along as many vectors: `[*batch, 2, 2]`."""
        x, w = self._known(points), _checks.float_array("vectors", vectors)
        if w.shape != x.shape:
            raise ValueError(f"vectors must have the shape of points, {x.shape}, got {w.shape}.")
        return _arrays.as_given(self._hessian_along(x, w), points)

    # For Newton's method, whose steps go beyond the box and are taken back: the spline is held at its edge there.

    def _gradient(self, x: np.ndarray) -> np.ndarray:
        return np.stack(self._derivatives(x, (1, 0), (0, 1)), axis=-1)

    def _hessian(self, x: np.ndarray) -> np.ndarray:
        return _symmetric(*self._derivatives(x, (2, 0), (1, 1), (0, 2)))

    def _hessian_along(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        aaa, aab, abb, bbb = self._derivatives(x, (3, 0), (2, 1), (1, 2), (0, 3))
        v, w = w[..., 0], w[..., 1]
        return _symmetric(v * aaa + w * aab, v * aab + w * abb, v * abb + w * bbb)

    def _derivatives(self, x: np.ndarray, *orders: tuple[int, int]) -> list[np.ndarray]:
        return [self._spline.ev(x[..., 0], x[..., 1], dx=a, dy=b) for a, b in orders]

    def _known(self, points: Any) -> np.ndarray:
        """Points `[*batch, 2]` in the box as an array, or refused."""
        x = _checks.float_array("points", points)
        if x.ndim < 1 or x.shape[-1] != 2:
            raise ValueError(f"points must have shape [*batch, 2], got {x.shape}.")
        inside = self.inside(x.reshape(-1, 2))
        if not inside.all():
            box, outside = (
                f"{np.array(self.lower).tolist()} to {np.array(self.upper).tolist()}",
                x.reshape(-1, 2)[~inside],
            )
            raise ValueError(f"points must be in the box of the table, {box}, got {outside[0].tolist()}.")
        return x

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Which of the points `[n, 2]` are in the box, bool `[n]`."""
        return np.all((x >= self.lower) & (x <= self.upper), axis=1)

    def axes(self, shape: tuple[int, int], fewest: int = 6) -> list[np.ndarray]:
        """Coordinates along each axis of `shape` nodes over the box, `fewest` or more."""
        if np.shape(shape) != (2,):
            raise ValueError(f"shape must be two numbers of nodes, got {shape}.")
        sizes = [_checks.integer("shape", n, fewest) for n in shape]
        return [np.linspace(a, b, n) for a, b, n in zip(self.lower, self.upper, sizes, strict=True)]


def _symmetric(aa: np.ndarray, ab: np.ndarray, bb: np.ndarray) -> np.ndarray:
    return np.stack([np.stack([aa, ab], axis=-1), np.stack([ab, bb], axis=-1)], axis=-2)
