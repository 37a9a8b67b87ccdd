"""Curves under the metric Hess phi of a potential: geodesics between many pairs of points, lengths, maps of distance.

Four kinds connect two points: "levi-civita", the true geodesic of the metric; "exponential", straight in theta;
"mixture", straight in eta = grad phi; "released", the optimum of the objective of the paper's released script, whose
metric is held fixed while it descends. Lengths and energies are those of polylines under phi itself, <dx, d eta> for
each segment, however sharp its ridges: energies are exact and never below the geodesic's, lengths come from above.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from torch import nn

from hessfast import _arrays, _checks, _newton_curves, _other_curves
from hessfast._newton_curves import Field
from hessfast.derivatives import CHUNK, fisher_metric, gradient, hessian_along, known_perceptron

KINDS = ("levi-civita", "exponential", "mixture", "released")
_POCKETS = 0.01  # of the edges of a map may have a negative squared length: splines ring beside ridges
_MOST_STEPS = 100  # of Newton's method on each mesh


class Table:
    """A potential in two dimensions as a quintic spline through its values on a grid: derivatives for nothing.

    Args:
        potential: maps points `[n, 2]` to `[n]`, tensor or array.
        lower, upper: corners of the box; beyond it there is no potential.
        shape: nodes along each axis, 6 or more; features of phi narrower than two cells are lost.

    Example:
        >>> table = Table(lambda x: (x**2).sum(dim=-1), (0.0, 0.0), (1.0, 1.0), (8, 8))
        >>> table.field().metric(np.array([[0.3, 0.4]])).round(6).diagonal(axis1=1, axis2=2).tolist()
        [[2.0, 2.0]]
    """

    def __init__(self, potential: Any, lower: Any, upper: Any, shape: tuple[int, int] = (128, 128)):
        self._set_box(lower, upper)
        axes = _axes(self.lower, self.upper, shape, 6)
        nodes = torch.as_tensor(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))
        like = next((x for x in potential.parameters()), nodes) if isinstance(potential, nn.Module) else nodes
        with torch.no_grad():
            parts = [_double(potential)(some.to(like.device)) for some in nodes.split(CHUNK)]
        values = np.concatenate([_arrays.to_numpy(part).reshape(-1) for part in parts])
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
        table._fit(_axes(table.lower, table.upper, values.shape, 6), values)
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
        flat = _checks.float_array("points", points)
        if flat.ndim < 1 or flat.shape[-1] != 2 or not self.field().inside(flat.reshape(-1, 2)).all():
            raise ValueError(
                f"points must be [*batch, 2] in the table's box, got {flat.shape} to {flat.max(initial=0):g}."
            )
        return _arrays.as_given(self._spline.ev(flat[..., 0], flat[..., 1]), points)

    def field(self) -> Field:
        def along(x: np.ndarray, orders: list[tuple[int, int]]) -> list[np.ndarray]:
            return [self._spline.ev(x[:, 0], x[:, 1], dx=a, dy=b) for a, b in orders]

        def symmetric(aa: np.ndarray, ab: np.ndarray, bb: np.ndarray) -> np.ndarray:
            return np.stack([np.stack([aa, ab], axis=-1), np.stack([ab, bb], axis=-1)], axis=-2)

        def metric_along(x: np.ndarray, w: np.ndarray) -> np.ndarray:
            aaa, aab, abb, bbb = along(x, [(3, 0), (2, 1), (1, 2), (0, 3)])
            v, w = w.T
            return symmetric(v * aaa + w * aab, v * aab + w * abb, v * abb + w * bbb)

        return Field(
            lambda x: np.stack(along(x, [(1, 0), (0, 1)]), axis=-1),
            lambda x: symmetric(*along(x, [(2, 0), (1, 1), (0, 2)])),
            metric_along,
            lambda x: np.all((x >= self.lower) & (x <= self.upper), axis=1),
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves between pairs of points.

    Attributes:
        points: `[*batch, num_points, dim]`, at equal steps of the curve's parameter.
        length: `[*batch]`, sum of sqrt(<dx, d eta>); NaN if phi is not convex or not finite along the curve.
        energy: `[*batch]`, num_points - 1 times the sum of <dx, d eta>: for a geodesic the length squared.
        residual: `[*batch]`; Newton's decrement over the energy (levi-civita); the relative residual of the equation
            that is solved (mixture, released); 0 (exponential).
        converged: bool `[*batch]`, whether residual < tolerance and the length is not NaN.
        iterations: int `[*batch]`.
    """

    points: Any
    length: Any
    energy: Any
    residual: Any
    converged: Any
    iterations: Any


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
        potential: phi: a module or callable as in `derivatives`, or a `Table`, which is much faster than a network.
        start, end: `[*batch, dim]`.
        kind: one of KINDS.
        num_points: of a curve, both ends among them.
        tolerance: of the residual; the length is then right to about a quarter of it, beside the mesh.
        box: lowest and highest coordinates that curves may take; None: a Table's own, or none.

    Raises:
        ValueError: for points outside the box or where phi is not finite, start and end alike, NaN, shapes that do not
            fit. Curves keep to where phi is finite; if the straight line does not, the length is NaN.

    Example:
        Two classes: log Z = log(1 + e^a), a half circle of radius 2 in the angle of sqrt(p).

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
    if (a == b).all(axis=-1).any():
        raise ValueError("start and end must differ, got the same point twice.")
    batch, dim = a.shape[:-1], a.shape[-1]
    a, b = a.reshape(-1, dim), b.reshape(-1, dim)
    field = _field(potential, box, dim)
    for name, ends in (("start", a), ("end", b)):
        if not field.inside(ends).all():
            outside = ends[~field.inside(ends)][0]
            raise ValueError(f"{name} must be in the box, got {outside.tolist()}. Choose another, or a larger box.")
        _refuse_unknown(name, ends, field.mean(ends))
    n = num_points - 1
    line = a[:, None] + np.linspace(0, 1, num_points)[:, None] * (b - a)[:, None]
    residual, iterations = np.zeros(len(a)), np.zeros(len(a), int)
    if kind == "levi-civita":
        points, residual, iterations = _newton_curves.connect(field, a, b, n, tolerance, _MOST_STEPS)
    elif kind == "exponential":
        points = line
    else:
        solve = _other_curves.straight_in_eta if kind == "mixture" else _other_curves.released
        points, residual, iterations = solve(field, line, tolerance, _MOST_STEPS)
    means = _newton_curves.at(field.mean, points)
    steps, noise = _newton_curves.squared_lengths(points, means)
    length = np.where(_concave(steps, noise).any(axis=1), np.nan, np.sqrt(np.maximum(steps, 0)).sum(axis=1))
    converged = (residual < tolerance) & ~np.isnan(length)
    results = points, length, n * steps.sum(axis=1), residual, converged, iterations
    return Curves(*(_arrays.as_given(x.reshape((*batch, *x.shape[1:])), start) for x in results))


def curve_length(potential: Any, points: Any) -> Any:
    """Lengths of polylines `[*batch, num_points, dim]`: sum of sqrt(<dx, d eta>) over segments, `[*batch]`.

    Example:
        >>> curve_length(lambda x: (x**2).sum(dim=-1) / 2, [[0.0, 0.0], [3.0, 4.0]]).round(9).tolist()
        5.0
    """
    return _arrays.as_given(_lengths(potential, points).sum(axis=-1), points)


def curve_energy(potential: Any, points: Any) -> Any:
    """(num_points - 1) sum of <dx, d eta> of polylines `[*batch, num_points, dim]`, `[*batch]`."""
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
        place = np.concatenate([[0.0], np.cumsum(steps if steps.any() else np.ones_like(steps))])
        targets = np.linspace(0, place[-1], num)
        result[k] = np.stack([np.interp(targets, place, polyline[:, a]) for a in range(dim)], axis=-1)
        result[k, [0, -1]] = polyline[[0, -1]]  # which interpolation misses where segments beside them have no length
    return _arrays.as_given(result.reshape(*batch, num, dim), points)


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
    field = _field(potential, None, dim, exact=True)
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


def distance_map(table: Table, source: Any, shape: tuple[int, int] = (257, 257)) -> Any:
    """Distances from a point to the nodes of a grid over the table's box, `[*shape]`, by shortest paths on the grid.

    Each node is joined to the 48 nearest in different directions: distances are those of curves made of such steps, too
    long by .8 % at most where the metric is isotropic in units of the cells, by several times that where it is not.

    Args:
        table: a convex potential in two dimensions.
        source: `[2]`; the node nearest to it is taken.
        shape: nodes along each axis, 5 or more.

    Raises:
        ValueError: for a potential that is not convex, or a source outside the box. No path takes an edge of negative
            squared length; up to one in a hundred is borne.
    """
    from scipy.sparse.csgraph import dijkstra

    from hessfast import _grid_paths

    if not isinstance(table, Table):
        raise TypeError(f"table must be a Table, got {type(table).__name__}.")
    point = _checks.float_array("source", source)
    if point.shape != (2,) or not table.field().inside(point[None]).all():
        raise ValueError(f"source must be a point in the table's box, got {point.tolist()}.")
    axes = _axes(table.lower, table.upper, shape, 5)
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    means = table.field().mean(nodes.reshape(-1, 2)).reshape(nodes.shape)
    lengths = []
    for _, here, there in _grid_paths.edges(shape):
        dx = nodes[there] - nodes[here]
        squared = (dx * (means[there] - means[here])).sum(axis=-1)
        rounding = _newton_curves.ROUNDING * np.abs(dx).sum(axis=-1) * np.abs(means).max()
        convex = squared >= -rounding - 1e-9 * np.abs(squared).max()
        lengths.append(np.where(convex, np.sqrt(np.maximum(squared, rounding + 1e-300)), np.nan))
    if np.isnan(np.concatenate([each.ravel() for each in lengths])).mean() > _POCKETS:
        raise ValueError("table must be of a convex potential, got edges of negative squared length.")
    nearest = np.ravel_multi_index([np.abs(axis - x).argmin() for axis, x in zip(axes, point, strict=True)], shape)
    distances = dijkstra(_grid_paths.graph(shape, lengths), directed=False, indices=nearest).reshape(shape)
    return _arrays.as_given(distances, source)


def _double(potential: Any) -> Any:
    """A copy of a module in float64, and anything else itself."""
    return copy.deepcopy(potential).double() if isinstance(potential, nn.Module) else potential


def _axes(lower: np.ndarray, upper: np.ndarray, shape: tuple[int, int], fewest: int) -> list[np.ndarray]:
    if np.shape(shape) != (2,):
        raise ValueError(f"shape must be two numbers of nodes, got {shape}.")
    sizes = [_checks.integer("shape", n, fewest) for n in shape]
    return [np.linspace(a, b, n) for a, b, n in zip(lower, upper, sizes, strict=True)]


def _field(potential: Any, box: tuple[Any, Any] | None, dim: int, exact: bool = False) -> Field:
    """The potential as Newton's method sees it; a box of its own shrinks a table's.

    Modules are copied to float64: second differences of eta along a curve are lost in float32. Of the metric six digits
    do, unless it must be `exact`, so that perceptrons keep their kernel and differences replace its change.
    """
    if isinstance(potential, Table):
        if dim != 2:
            raise ValueError(f"start must have two coordinates for a Table, got {dim}.")
        field = potential.field()
    else:
        double = _double(potential)
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


def _steps(potential: Any, points: Any) -> tuple[np.ndarray, np.ndarray]:
    """<dx, d eta> of every segment and what rounding may do to it, `[*batch, num_points - 1]`."""
    polylines = _checks.float_array("points", points)
    if polylines.ndim < 2 or polylines.shape[-2] < 2:
        raise ValueError(f"points must have shape [*batch, num_points, dim], got {polylines.shape}.")
    field = _field(potential, None, polylines.shape[-1])
    if not field.inside(polylines.reshape(-1, polylines.shape[-1])).all():
        raise ValueError("points must be in the table's box, got some outside. Use a larger table.")
    means = _newton_curves.at(field.mean, polylines)
    _refuse_unknown("points", polylines, means)
    return _newton_curves.squared_lengths(polylines, means)


def _refuse_unknown(name: str, points: np.ndarray, means: np.ndarray) -> None:
    """Points where phi is not finite, and with it its gradient."""
    if (unknown := ~np.isfinite(means).all(axis=-1)).any():
        raise ValueError(
            f"{name} must be where the potential is finite, got {points[unknown][0].tolist()}. Choose others."
        )


def _lengths(potential: Any, points: Any) -> np.ndarray:
    """Of segments; negative squares are refused."""
    steps, noise = _steps(potential, points)
    if _concave(steps, noise).any():
        raise ValueError("potential must be convex along the curve, got a segment of negative squared length.")
    return np.sqrt(np.maximum(steps, 0))


def _concave(steps: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which segments have a negative squared length, rounding aside."""
    return steps < -1e-9 * np.abs(steps).max(axis=-1, initial=0, keepdims=True) - noise
