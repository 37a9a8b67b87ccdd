"""The fit of an exponential family: statistics, kink and potential from features at known parameters."""

import dataclasses
import math

import numpy as np

from . import _pairs
from ._basis import Basis, JumpingBasis, smooth
from ._covariance import with_covariances
from ._fit import Fit
from ._kink import find_kink
from ._normaliser import calibrate
from ._potential import fit_potential

_MOST_FUNCTIONS = 1000  # of a basis; their pencil is diagonalised a few times


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
    intervals = _intervals(resolution, len(gauge), theta.shape[1])
    fit = _with_potential(z, u, theta, num_sites, plane, intervals, S, not sufficient)
    return with_covariances(fit, z, u, theta, num_sites).centred(gauge)


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
    intervals = _intervals(resolution, len(theta), theta.shape[1])
    fit = _with_potential(z, u, theta, num_sites, fit.basis.kink, intervals, S, not sufficient, robust=True)
    fit = fit.centred(theta)
    f = z @ fit.directions + fit.offset
    c = calibrate(fit.basis, theta, f, fit.coefficients, num_sites, np.random.default_rng([seed, 2]))
    return dataclasses.replace(fit, coefficients=c)


def _with_potential(z, u, theta, num_sites, plane, intervals, S, mixed, robust=False) -> Fit:
    """phi fitted to the means of the statistics S^T z, which `mixed` allows to be mixed with one another.

    `intervals` are those of the splines of means, and of phi.
    """
    dim, means, error, (coarse, fine) = theta.shape[1], None, 0.0, intervals
    if mixed:
        side = None if plane is None else plane.side(theta)
        jumping = JumpingBasis(u, side, coarse, max(coarse // 2, 2))
        A = jumping()
        means = A @ smooth(A, z @ S, np.ones(len(z)), jumping.roughness)
        error = math.sqrt(z.shape[1] / len(z))  # of a regression on so many features
    basis = Basis.over(theta, plane, fine, max(fine // 2, 2))
    c, B = fit_potential(basis, theta, z @ S, means, error, robust)
    return Fit(S @ (np.eye(dim) + B).T / num_sites, np.zeros(dim), basis, c / num_sites, B)


def _intervals(resolution: int | None, num: int, dim: int) -> tuple[int, int]:
    """Of the splines of means and of phi: as given, or as is right for `num` samples."""
    return resolution or _resolution(num, dim, 1), resolution or _resolution(num, dim, 2)


def _resolution(num: int, dim: int, factor: int) -> int:
    """Intervals of the splines, finer by the square root of the number along an axis; degree of the polynomials."""
    if dim > 3:
        most = min(_MOST_FUNCTIONS, num // 10)
        return max(degree for degree in range(2, 5) if degree == 2 or math.comb(degree + dim, dim) <= most)
    return max(2, min(round(factor * num ** (0.5 / dim)), int(_MOST_FUNCTIONS ** (1 / dim) + 1e-9) - 3, 60))
