"""The fit of an exponential family: statistics, kink and potential from features at known parameters."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from . import _pairs
from ._basis import Basis, JumpingBasis, smooth
from ._kink import find_kink
from ._normaliser import calibrate
from ._potential import fit_potential
from ._smoothness import with_best_metric

_SMOOTHERS = (1.0, 3.0, 10.0, 30.0, 100.0)  # than cross-validation of the means asks; hardly worse for these
_MOST_FUNCTIONS = 1000  # of a basis; their pencil is diagonalised a few times


@dataclass(frozen=True, eq=False)
class Fit:
    """f(x) = directions^T z(x) + offset and phi = basis . coefficients, both per site."""

    directions: np.ndarray
    offset: np.ndarray
    basis: Basis
    coefficients: np.ndarray
    mixing: np.ndarray

    def log_z(self, theta: np.ndarray) -> np.ndarray:
        return self.basis.values(theta) @ self.coefficients

    def mean(self, theta: np.ndarray) -> np.ndarray:
        return np.stack([self.basis.gradient(theta, a) @ self.coefficients for a in range(self.basis.dim)], axis=-1)

    def fisher_metric(self, theta: np.ndarray) -> np.ndarray:
        metric = np.empty((len(theta), self.basis.dim, self.basis.dim))
        for a in range(self.basis.dim):
            for b in range(a + 1):
                metric[:, a, b] = metric[:, b, a] = self.basis.hessian(theta, a, b) @ self.coefficients
        return metric


def learn(
    z: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
    gauge: np.ndarray,
    num_sites: int,
    kink: bool,
    resolution: int | None,
    sufficient: bool,
    seed: int,
) -> Fit:
    """Statistics and potential of features z; phi and grad phi have mean zero over the natural parameters `gauge`.

    `u` are the parameters as given, in which neighbours are sought and means are smoothed. If z are the sufficient
    statistics per site, phi is all there is to learn.
    """
    plane = find_kink(z, u, theta) if kink else None
    S = num_sites * np.eye(z.shape[1]) if sufficient else _pairs.near(z, u, theta, np.random.default_rng([seed, 0]))
    fits = _with_potential(z, u, theta, gauge, num_sites, plane, resolution, S, not sufficient, _SMOOTHERS)
    return with_best_metric(fits, z, u, theta, num_sites)


def sharpen(
    fit: Fit,
    z: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
    num_sites: int,
    resolution: int | None,
    sufficient: bool,
    seed: int,
) -> Fit:
    """The fit that posteriors need: statistics also from pairs far apart, phi calibrated to a fraction of 1 / N.

    Of an exponential family both are the same. Of what is none, as the TASEP, the best posterior of this form belongs
    to other statistics than the best log Z: those are right near every t, these across all of parameter space. A robust
    phi is the better start for the calibration, which takes its bias away.
    """
    S = fit.directions * num_sites
    S = S if sufficient else _pairs.far(z, u, theta, S, np.random.default_rng([seed, 1]))
    (fit,) = _with_potential(z, u, theta, theta, num_sites, fit.basis.kink, resolution, S, not sufficient, robust=True)
    f = z @ fit.directions + fit.offset
    c = calibrate(fit.basis, theta, f, fit.coefficients, num_sites, np.random.default_rng([seed, 2]))
    return dataclasses.replace(fit, coefficients=c)


def _with_potential(
    z, u, theta, gauge, num_sites, plane, resolution, S, mixed, smoothers=(1.0,), robust=False
) -> list[Fit]:
    """Fits of phi to the statistics S^T z, which `mixed` allows to be mixed with one another, by smoother."""
    dim, means, error = theta.shape[1], None, 0.0
    if mixed:
        coarse = resolution or _resolution(len(gauge), dim, 1)
        side = None if plane is None else plane.side(theta)
        jumping = JumpingBasis(u, side, coarse, max(coarse // 2, 2))
        A = jumping()
        means = A @ smooth(A, z @ S, np.ones(len(z)), jumping.roughness)
        error = math.sqrt(z.shape[1] / len(z))  # of a regression on so many features
    resolution = resolution or _resolution(len(gauge), dim, 2)
    basis = Basis(theta, plane, resolution, max(resolution // 2, 2))
    gradients = np.stack([np.asarray(basis.gradient(gauge, a).mean(axis=0)) for a in range(dim)])
    values, (linear, constant) = np.asarray(basis.values(gauge).mean(axis=0)), basis.affine()
    fits = []
    for c, B in fit_potential(basis, theta, z @ S, means, error, smoothers, robust):
        slope = gradients @ c
        c = c - linear @ slope
        c = c - constant * (values @ c)
        fits.append(Fit(S @ (np.eye(dim) + B).T / num_sites, -slope / num_sites, basis, c / num_sites, B))
    return fits


def _resolution(num: int, dim: int, factor: int) -> int:
    """Intervals of the splines, finer by the square root of the number along an axis; degree of the polynomials."""
    if dim > 3:
        most = min(_MOST_FUNCTIONS, num // 10)
        return max(degree for degree in range(2, 5) if degree == 2 or math.comb(degree + dim, dim) <= most)
    return max(2, min(round(factor * num ** (0.5 / dim)), int(_MOST_FUNCTIONS ** (1 / dim) + 1e-9) - 3, 60))
