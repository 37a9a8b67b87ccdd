"""Geodesics of Hessian metrics between many pairs of points at once: Newton's method on the energy of polylines.

The energy of a polyline x_0 .. x_n is E = n sum_k <x_k+1 - x_k, eta_k+1 - eta_k> with eta = grad phi, each segment's
own Jeffreys divergence: exact for phi, however sharp its ridges, and never below the energy of the geodesic. With
second differences D^2, H the metric at a node and T[w] its derivative along w,

    gradient / n = -(D^2 eta + H D^2 x),        Hessian / n = K - diag(D^2 H + T[D^2 x]),
    K_ii = H_i-1 + 2 H_i + H_i+1,  K_i,i+1 = -(H_i + H_i+1).

Steps solve (Hessian / n + 4 damping diag|H|) p = -gradient / n by block Cholesky along the curve, batched over pairs;
damping grows where the matrix is not positive definite or a step does not lower E, as in Levenberg's method.
"""

from typing import NamedTuple

import numpy as np

from hessfast._dispatch import kernel
from hessfast._polylines import resampled

from ._field import ROUNDING, Field, Units, at, squared_lengths, units

_FIRST_DAMPING, _LEAST, _MOST = 1e-3, 1e-9, 1e9
_SINGULAR = 4e-9  # of the metric's size: what makes a semidefinite metric definite
_COARSEST = 12  # segments: from a straight line of more the method may not arrive beyond a ridge


class Solved(NamedTuple):
    """Curves `[pairs, n + 1, dim]`, residual `[pairs]`: Newton's decrement over the energy; iterations."""

    points: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray


def connect(field: Field, start: np.ndarray, end: np.ndarray, segments: int, tolerance: float, most: int) -> Solved:
    """From straight lines on a coarse mesh to the last one."""
    meshes = _meshes(segments)
    points = start[:, None] + np.linspace(0, 1, meshes[0] + 1)[:, None] * (end - start)[:, None]
    iterations, scale = np.zeros(len(start), int), units(field, points)
    for n in meshes:
        points = resampled(points, n + 1)
        solved = _relax(field, points, scale, tolerance, most)
        points, iterations = solved.points, iterations + solved.iterations
    return solved._replace(iterations=iterations)


def _meshes(segments: int) -> list[int]:
    """Halved three times, or oftener until few are left."""
    halvings = max(3, (segments // _COARSEST).bit_length())
    return sorted({max(segments >> k, 2) for k in range(halvings + 1)})


def energy(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Of polylines `[pairs, n + 1, dim]` and eta there."""
    return (points.shape[1] - 1) * squared_lengths(points, means)[0].sum(axis=1)


def _relax(field: Field, points: np.ndarray, scale: Units, tolerance: float, most: int) -> Solved:
    points = points.copy()
    pairs, nodes, dim = points.shape
    n = nodes - 1
    means = at(field.mean, points)
    value = energy(points, means)
    damping, residual = np.full(pairs, _FIRST_DAMPING), np.full(pairs, np.inf)
    iterations = np.zeros(pairs, int)
    metric, gradient, lower, diagonal = (
        np.empty((pairs, n + 1, dim, dim)), np.empty((pairs, n - 1, dim)),
        np.empty((pairs, n - 2, dim, dim)), np.empty((pairs, n - 1, dim, dim)),
    )  # fmt: skip
    block_tridiagonal, unit, least = kernel("block_tridiagonal"), scale.step, 4 * scale.least[..., None] * np.eye(dim)
    fresh, active = np.ones(pairs, bool), np.isfinite(value)
    for _ in range(most):
        new = np.flatnonzero(active & fresh)
        if new.size:
            metric[new] = H = at(field.metric, points[new])
            bend, turn = np.diff(points[new], n=2, axis=1), np.diff(means[new], n=2, axis=1)
            force = -(turn + np.einsum("pkij,pkj->pki", H[:, 1:-1], bend))
            heard = np.abs(force) > ROUNDING * np.abs(means[new]).max(axis=1, keepdims=True)
            gradient[new] = np.where(heard, force, 0)  # a flat coordinate would follow its rounding anywhere
            along = _along(field, points[new], H, bend, unit[new])
            K = H[:, :-2] + 2 * H[:, 1:-1] + H[:, 2:]
            lower[new] = -(H[:, 1:-2] + H[:, 2:-1])
            diagonal[new] = K - np.diff(H, n=2, axis=1) - along
            decrement, convex = block_tridiagonal(
                K + _SINGULAR * _size(H[:, 1:-1], unit[new]) + least[new], lower[new], gradient[new]
            )
            gain = n * (gradient[new] * decrement).sum(axis=(1, 2))
            noise = n * squared_lengths(points[new], means[new])[1].sum(axis=1)
            residual[new] = np.where(convex, gain / (np.abs(value[new]) + noise / tolerance + 1e-300), np.inf)
            forces, sizes = (np.abs(x[new] * unit[new]).max(axis=(1, 2)) for x in (gradient, means))
            still = forces <= ROUNDING * sizes
            if still.any():
                at_rest = new[still]
                residual[at_rest[~_indefinite(H[still], points[at_rest], means[at_rest])]] = 0
            active[new] = ~(residual[new] < tolerance)
        now = np.flatnonzero(active)
        if not now.size:
            break
        iterations[now] += 1
        damped = (
            diagonal[now] + 4 * damping[now, None, None, None] * _size(metric[now][:, 1:-1], unit[now]) + least[now]
        )
        step, definite = block_tridiagonal(damped, lower[now], -gradient[now])
        there = points[now].copy()
        there[:, 1:-1] += step
        allowed = definite & np.isfinite(step).all(axis=(1, 2))
        allowed[allowed] = field.inside(there[allowed].reshape(-1, dim)).reshape(-1, nodes).all(axis=1)
        after, means_there = np.full(len(now), np.inf), np.empty_like(there)
        if allowed.any():
            means_there[allowed] = at(field.mean, there[allowed])
            after[allowed] = energy(there[allowed], means_there[allowed])
        better = after < value[now]
        taken = now[better]
        points[taken], means[taken], value[taken] = there[better], means_there[better], after[better]
        damping[taken] = np.maximum(damping[taken] / 8, _LEAST)
        damping[now[~better]] *= 4
        fresh[:] = False
        fresh[taken] = True
        active[now] &= damping[now] < _MOST
    return Solved(points, residual, iterations)


def _along(field: Field, points: np.ndarray, metric: np.ndarray, bend: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """T[bend] at the inner nodes; by differences over a quarter of a segment, which a term so small forgives."""
    inner = points[:, 1:-1]
    if field.metric_along is not None:
        return at(field.metric_along, inner, bend)
    reach = np.linalg.norm((points[:, 2:] - points[:, :-2]) / unit, axis=-1, keepdims=True) / 8
    far = np.linalg.norm(bend / unit, axis=-1, keepdims=True)
    times = reach / np.where(far > 0, far, 1)
    return (at(field.metric, inner + times * bend) - metric[:, 1:-1]) / times[..., None]


def _indefinite(metric: np.ndarray, points: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Curves along which an eigenvalue of the metric is negative by more than rounding, `[pairs]`."""
    length = np.abs(np.diff(points, axis=1)).max(axis=(1, 2)) + 1e-300
    rounded = 1e-8 * np.abs(metric).max(axis=(1, 2, 3)) + 4 * ROUNDING * np.abs(means).max(axis=(1, 2)) / length
    return np.linalg.eigvalsh(metric)[..., 0].min(axis=1) < -rounded


def _size(metric: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The metric with eigenvalues (in units) made positive, and none much smaller than the largest of its curve."""
    both = unit[..., :, None] * unit[..., None, :]
    eigenvalues, vectors = np.linalg.eigh(metric * both)
    eigenvalues = np.abs(eigenvalues)
    floor = 1e-9 * eigenvalues.max(axis=(1, 2), keepdims=True) + 1e-300
    return (vectors * np.maximum(eigenvalues, floor)[..., None, :]) @ vectors.swapaxes(-1, -2) / both
