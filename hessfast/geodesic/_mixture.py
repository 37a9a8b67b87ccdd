"""Curves straight in eta, geodesics of the mixture connection (Amari), between many pairs at once."""

import numpy as np

from ._field import ROUNDING, Field, at, units

_FIRST_DAMPING, _LEAST, _MOST = 1e-6, 1e-14, 1e9


def straight_in_eta(
    field: Field, line: np.ndarray, tolerance: float, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of which eta is straight, each by Newton's method, damped, from its place on the lines `[pairs, n, dim]`.

    Returns:
        points `[pairs, n, dim]`; residual `[pairs]`, the farthest miss of eta over its way; iterations `[pairs]`.
    """
    pairs, nodes, dim = line.shape
    ends = at(field.mean, line[:, [0, -1]])
    goals = ends[:, :1] + np.linspace(0, 1, nodes)[:, None] * (ends[:, 1:] - ends[:, :1])
    unit = units(field, line).step[:, 0]
    way = np.abs((ends[:, 1] - ends[:, 0]) * unit).max(axis=1, keepdims=True) / unit
    way += ROUNDING / tolerance * np.abs(ends).max(axis=1, initial=0) + 1e-300
    points, goals = line.reshape(-1, dim).copy(), goals.reshape(-1, dim)
    way, unit = np.repeat(way, nodes, axis=0), np.repeat(unit, nodes, axis=0)
    miss = (field.mean(points) - goals) / way
    damping, iterations = np.full(len(points), _FIRST_DAMPING), np.zeros(len(points), int)
    for _ in range(most):
        now = np.flatnonzero((np.abs(miss).max(axis=1) >= tolerance) & (damping < _MOST))
        if not now.size:
            break
        iterations[now] += 1
        metric = field.metric(points[now])
        trace = np.abs((np.diagonal(metric, axis1=-2, axis2=-1) * unit[now] ** 2).sum(axis=1)) + 1e-300
        damped = metric + (damping[now] * trace)[:, None, None] * np.eye(dim) / unit[now, :, None] ** 2
        there = points[now] - np.linalg.solve(damped, (miss * way)[now][..., None])[..., 0]
        allowed = np.isfinite(there).all(axis=1)
        allowed[allowed] = field.inside(there[allowed])
        after = np.full((len(now), dim), np.inf)
        after[allowed] = (field.mean(there[allowed]) - goals[now][allowed]) / way[now][allowed]
        better = (after**2).sum(axis=1) < (miss[now] ** 2).sum(axis=1)
        points[now[better]], miss[now[better]] = there[better], after[better]
        damping[now] = np.where(better, np.maximum(damping[now] / 10, _LEAST), damping[now] * 10)
    residual = np.abs(miss).reshape(pairs, nodes * dim).max(axis=1)
    return points.reshape(line.shape), residual, iterations.reshape(pairs, nodes).max(axis=1)
