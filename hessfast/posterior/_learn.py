"""The fit of an exponential family: statistics, kink and potential from features at known parameters."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import _potential, _score_identity
from ._basis import Basis

_MOST_FUNCTIONS = 1000  # of a basis; their pencil is diagonalised a few times
_STEP = 1e-8  # of the range of a parameter, to differentiate by


@dataclass(frozen=True)
class Fit:
    """f(x) = directions^T z(x) + offset and phi = basis . coefficients, both per site."""

    directions: np.ndarray
    offset: np.ndarray
    basis: Basis
    coefficients: np.ndarray
    mixing: np.ndarray

    def phi(self, theta: np.ndarray) -> np.ndarray:
        return self.basis.values(theta) @ self.coefficients

    def mean(self, theta: np.ndarray) -> np.ndarray:
        return np.stack([self.basis.gradient(theta, a) @ self.coefficients for a in range(self.basis.dim)], axis=-1)

    def fisher_metric(self, theta: np.ndarray) -> np.ndarray:
        metric = np.empty((len(theta), self.basis.dim, self.basis.dim))
        for a in range(self.basis.dim):
            for b in range(a + 1):
                metric[:, a, b] = metric[:, b, a] = self.basis.hessian(theta, a, b) @ self.coefficients
        return metric


@dataclass(frozen=True)
class Parameters:
    """Those of the samples as given, `u`, natural ones, `theta`, and d u / d theta `[n, dim of u, dim]`."""

    u: np.ndarray
    theta: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, u: np.ndarray, theta: np.ndarray, to_natural: Callable[[np.ndarray], np.ndarray] | None):
        if to_natural is None:
            return cls(u, theta, np.broadcast_to(np.eye(u.shape[1]), (*theta.shape, theta.shape[1])))
        jacobian = np.empty((*theta.shape, u.shape[1]))
        for k, step in enumerate(np.diag(_STEP * np.ptp(u, axis=0))):
            above, below = np.minimum(u + step, u.max(axis=0)), np.maximum(u - step, u.min(axis=0))
            change = np.asarray(to_natural(above)) - np.asarray(to_natural(below))
            jacobian[:, :, k] = change / (above - below)[:, k, None]
        return cls(u, theta, np.linalg.pinv(jacobian))

    def __getitem__(self, rows: np.ndarray) -> "Parameters":
        return Parameters(self.u[rows], self.theta[rows], self.slopes[rows])


def learn(
    z: np.ndarray,
    at: Parameters,
    gauge: np.ndarray,
    num_sites: int,
    kink: bool,
    resolution: int | None,
    known: np.ndarray | None,
) -> Fit:
    """Statistics and potential of features z; phi and grad phi have mean zero over the natural parameters `gauge`.

    With `known` the statistics are known^T z per site, and phi is all there is to learn.
    """
    num, dim = at.theta.shape
    near = _score_identity.neighbours(at.u)
    plane = _score_identity.find_kink(z, at.u, at.theta, near) if kink else None
    if known is None:
        coarse = resolution or _resolution(len(gauge), dim, 1)
        S, means, variances = _score_identity.solve(z, at.u, at.theta, at.slopes, near, plane, coarse)
        smooth = means @ S
        error = math.sqrt(z.shape[1] / num)  # of a regression on so many features
    else:
        S, smooth, variances, error = known * num_sites, None, np.ones_like(at.theta), 0.0
    resolution = resolution or _resolution(len(gauge), dim, 2)
    basis = Basis(at.theta, plane, resolution, max(resolution // 2, 2))
    c, B = _potential.fit_potential(basis, at.theta, z @ S, smooth, variances, error)
    directions = S @ (np.eye(dim) + B).T
    slope = np.array([(basis.gradient(gauge, a) @ c).mean() for a in range(dim)])
    linear, constant = basis.affine()
    c = c - linear @ slope
    c = c - constant * (basis.values(gauge) @ c).mean()
    return Fit(directions / num_sites, -slope / num_sites, basis, c / num_sites, B)


def _resolution(num: int, dim: int, factor: int) -> int:
    """Intervals of the splines, finer by the square root of the number along an axis; degree of the polynomials."""
    if dim > 3:
        most = min(_MOST_FUNCTIONS, num // 10)
        return max(degree for degree in range(2, 5) if degree == 2 or math.comb(degree + dim, dim) <= most)
    return max(2, min(round(factor * num ** (0.5 / dim)), int(_MOST_FUNCTIONS ** (1 / dim) + 1e-9) - 3, 60))
