"""Curves of the released script, which are no geodesics, between many pairs at once."""

import numpy as np

from hessfast._dispatch import kernel

from ._field import ROUNDING, Field, at

_BEND = 0.1  # weight of squared second differences in the released objective
_LEAST_SHARE = 1e-3  # of a step of the released descent


def released(field: Field, line: np.ndarray, tolerance: float, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the released script's descent rests: no force of sum d^T M d + 0.1 sum |second difference|^2, M held fixed.

    M is the metric at the middles of segments d. Linear solves with M where it was, and half of the way each time: the
    whole way swings to and fro. A step that has grown, or leaves the box, is shortened; residual: force over the forces
    of segments.
    """
    points, share, shortest = line.copy(), np.full(len(line), 0.5), np.full(len(line), np.inf)
    metric = at(field.metric, _middles(points))
    residual, iterations = _residual(metric, points), np.zeros(len(line), int)
    for _ in range(most):
        now = np.flatnonzero((residual >= tolerance) & (share > _LEAST_SHARE))
        if not now.size:
            break
        iterations[now] += 1
        step, definite = _solve(metric[now], -_force(metric[now], points[now]))
        size = np.linalg.norm(step, axis=(1, 2))
        share[now] = np.where(size > 2 * shortest[now], share[now] / 2, share[now])
        shortest[now] = np.minimum(shortest[now], size)
        there = points[now].copy()
        there[:, 1:-1] += share[now, None, None] * step
        allowed = definite & field.inside(there.reshape(-1, there.shape[-1])).reshape(there.shape[:-1]).all(axis=1)
        moved = np.full_like(metric[now], np.nan)
        moved[allowed] = at(field.metric, _middles(there[allowed]))
        allowed &= np.isfinite(moved).all(axis=(1, 2, 3))
        share[now[~allowed]] /= 2
        share[now[~definite]] = 0  # an indefinite metric: there is no such curve
        taken = now[allowed]
        points[taken], metric[taken] = there[allowed], moved[allowed]
        residual[taken] = _residual(metric[taken], points[taken])
    return points, residual, iterations


def _middles(points: np.ndarray) -> np.ndarray:
    return (points[:, 1:] + points[:, :-1]) / 2


def _force(metric: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Half the gradient of the released objective at the inner nodes, M held fixed."""
    pulls = np.einsum("pkij,pkj->pki", metric, np.diff(points, axis=1))
    bends = np.pad(np.diff(points, n=2, axis=1), ((0, 0), (2, 2), (0, 0)))
    return -np.diff(pulls, axis=1) + _BEND * np.diff(bends, n=2, axis=1)[:, 1:-1]


def _residual(metric: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Force over what pulls at the ends, and what bends could be or lose to rounding."""
    dx = np.diff(points, axis=1)
    pulls = np.abs(np.einsum("pkij,pkj->pki", metric[:, [0, -1]], dx[:, [0, -1]])).max(axis=(1, 2))
    bends = _BEND * (np.abs(dx).max(axis=(1, 2)) + ROUNDING * np.abs(points).max(axis=(1, 2)))
    return np.abs(_force(metric, points)).max(axis=(1, 2)) / (pulls + bends)


def _solve(metric: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the inner nodes that balance forces; two of them make a block, for bends reach to the next but one."""
    pairs, inner, dim = right.shape
    blocks = -(-inner // 2)
    second = np.diff(np.eye(inner + 2), n=2, axis=0)
    bend = _BEND * (second.T @ second)[1:-1, 1:-1]
    matrix = np.zeros((pairs, 2 * blocks, 3, dim, dim))  # of row k: columns k, k - 1, k - 2
    matrix[:, :inner, 0] = metric[:, :-1] + metric[:, 1:]
    matrix[:, 1:inner, 1] = -metric[:, 1:-1]
    for back in range(3):
        matrix[:, back:inner, back] += np.diagonal(bend, -back)[:, None, None] * np.eye(dim)
    matrix[:, inner:, 0] = np.eye(dim)  # a node that is not there
    first, last = matrix[:, ::2], matrix[:, 1::2]
    diagonal = _two_by_two(first[:, :, 0], last[:, :, 1].swapaxes(-1, -2), last[:, :, 1], last[:, :, 0])
    lower = _two_by_two(first[:, 1:, 2], first[:, 1:, 1], np.zeros_like(first[:, 1:, 0]), last[:, 1:, 2])
    right = np.pad(right, ((0, 0), (0, 2 * blocks - inner), (0, 0))).reshape(pairs, blocks, 2 * dim)
    step, definite = kernel("block_tridiagonal")(diagonal, lower, right)
    return step.reshape(pairs, 2 * blocks, dim)[:, :inner], definite


def _two_by_two(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.concatenate([np.concatenate([a, b], axis=-1), np.concatenate([c, d], axis=-1)], axis=-2)
